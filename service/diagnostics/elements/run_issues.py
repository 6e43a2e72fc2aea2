"""Label issues of the elements of an epoch of a structured run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Integers
from service.diagnostics.classes import MATRIX_CLASSES
from service.diagnostics.elements.class_issues import ClassIssues, ClassMarker, find_class_issues
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.label_tables import LabelIssueCounts
from service.diagnostics.elements.labels import LabelIssues, LabelMarker, find_label_issues
from service.diagnostics.elements.masks import PixelConfusions
from service.diagnostics.elements.run_chunks import examples_of, label_chunks, placed_class_chunks
from service.diagnostics.elements.run_words import WordsOfIssues
from service.diagnostics.elements.tokens import entities, merged_tokens
from service.diagnostics.label_errors import ConfidentLearning
from service.queries.view import View
from service.schema.replies.element_diagnostics import CommonIssue, ElementIssues, EntityIssues

LARGEST_ISSUES = 100


class RunIssues(TypedDict):
    """Label issues of an epoch, as JSON.

    Attributes:
        summary: The member `label_issues` of the reply.
        by_class: Members of `ElementClass` with their values for all classes, or for all labels.
        entities: The member `entities` of the reply.
    """

    summary: ElementIssues
    by_class: dict[str, list[Any]]
    entities: NotRequired[EntityIssues]


def run_issues(view: View, epoch: int) -> RunIssues:
    """Find the label issues of an epoch that has examples and probabilities."""
    num_classes = view.snapshot.num_classes or 2
    if view.snapshot.description.task == "multi_label":
        return _of_labels(view, epoch, num_classes)
    return _of_classes(view, epoch, num_classes)


def _of_labels(view: View, epoch: int, num_labels: int) -> RunIssues:
    chunks = label_chunks(view, epoch)
    issues = find_label_issues(chunks, num_labels)
    marker, counts = LabelMarker(issues), LabelIssueCounts(num_labels)
    for chunk in chunks():
        counts.add(chunk, marker.mark(chunk))
    common = counts.common_issues()
    columns = (common.labels, common.given, common.counts, common.shares)
    kinds: list[CommonIssue] = [
        {"label": label, "target": int(given), "suggested": int(not given), "count": count, "share": share}
        for label, given, count, share in zip(*(column.tolist() for column in columns), strict=True)
        if count
    ]
    summary = _summary(issues.labels, int(common.counts.sum()), counts.num_issues, counts.num_examples, kinds)
    return {"summary": summary, "by_class": _label_columns(issues, counts)}


def _label_columns(issues: LabelIssues, counts: LabelIssueCounts) -> dict[str, list[Any]]:
    quality = counts.label_quality()
    by_label = np.argsort(quality.labels)
    return {
        "thresholds": [list(map(_threshold, pair)) for pair in issues.thresholds.tolist()],
        "joint": issues.joints.tolist(),
        "label_issues": quality.label_issues[by_label].tolist(),
        "inverse_label_issues": quality.inverse_label_issues[by_label].tolist(),
        "label_noise": quality.label_noise[by_label].tolist(),
        "inverse_label_noise": quality.inverse_label_noise[by_label].tolist(),
        "label_quality": quality.label_quality[by_label].tolist(),
    }


def _of_classes(view: View, epoch: int, num_classes: int) -> RunIssues:
    run, chunks = view.snapshot.description, partial(placed_class_chunks, view, epoch)
    words = WordsOfIssues(view) if run.task == "tokens" else None
    issues, summary = _class_issues(chunks, num_classes, words)
    reply: RunIssues = {"summary": summary, "by_class": _class_columns(issues)}
    if words is None:
        return reply
    if words.found:
        summary["words"] = words.most_common(LARGEST_ISSUES)
    names, merged = entities(run.class_names or ())
    if 1 < len(names) < num_classes:
        _, of_entities = _class_issues(
            lambda columns: ((rows, merged_tokens(chunk, merged)) for rows, chunk in chunks(columns)), len(names)
        )
        reply["entities"] = {"names": names, **of_entities}
    return reply


PlacedChunks = Callable[[Sequence[str]], Iterable[tuple[pa.RecordBatch, ElementChunk]]]
"""Starts a pass over chunks with their stored rows, which have these columns beside their own."""


def _class_issues(
    chunks: PlacedChunks, num_classes: int, words: WordsOfIssues | None = None
) -> tuple[ClassIssues, ElementIssues]:
    """Find the label issues of chunks, and count those of each word, which only the last pass reads."""
    issues = find_class_issues(lambda: (chunk for _, chunk in chunks(())), num_classes)
    marker, confusions = ClassMarker(issues), PixelConfusions(num_classes)
    num_examples = num_with_issue = 0
    for rows, chunk in chunks(() if words is None else words.columns):
        marks = marker.mark(chunk)
        confusions.add(chunk, marks)
        num_examples += len(rows)
        num_with_issue += len(np.unique(examples_of(rows)[marks.reshape(-1)]))
        if words is not None:
            words.add(rows, chunk, marks)
    common = confusions.most_common()
    pairs = zip(common.first.tolist(), common.second.tolist(), common.counts.tolist(), strict=True)
    kinds: list[CommonIssue] = [
        {"target": target, "suggested": suggested, "count": count}
        for target, suggested, count in list(pairs)[:LARGEST_ISSUES]
    ]
    summary = _summary([issues.learned], int(common.counts.sum()), num_with_issue, num_examples, kinds)
    summary["joint"] = _joint(issues.learned)
    return issues, summary


def _class_columns(issues: ClassIssues) -> dict[str, list[Any]]:
    learned = issues.learned
    often = learned.most_confused.tolist()
    return {
        "threshold": list(map(_threshold, learned.thresholds.tolist())),
        "often_truly": [None if label < 0 else label for label in often],
        "label_issues": learned.label_issues.tolist(),
        "inverse_label_issues": learned.inverse_label_issues.tolist(),
        "label_noise": learned.label_noise.tolist(),
        "inverse_label_noise": learned.inverse_label_noise.tolist(),
        "label_quality": learned.label_quality.tolist(),
    }


def _summary(
    learned: Sequence[ConfidentLearning],
    num_issues: int,
    num_with_issue: int,
    num_examples: int,
    kinds: list[CommonIssue],
) -> ElementIssues:
    estimated = sum(part.num_label_issues_calibrated for part in learned)
    num_valid = sum(part.num_examples for part in learned)
    return {
        "estimated": estimated,
        "share": estimated / num_valid if num_valid else None,
        "num_issues": num_issues,
        "num_examples": num_with_issue,
        "health": 1 - num_with_issue / num_examples if num_examples else None,
        "joint": None,
        "common": kinds[:LARGEST_ISSUES],
    }


def _joint(learned: ConfidentLearning) -> list[list[int]] | None:
    pairs = learned.calibrated_joint
    if pairs.num_classes > MATRIX_CLASSES:
        return None
    matrix: Integers = np.zeros((pairs.num_classes, pairs.num_classes), np.int64)
    matrix[pairs.first, pairs.second] = pairs.counts
    rows: list[list[int]] = matrix.tolist()
    return rows


def _threshold(value: float) -> float | None:
    return None if value > 1 else value
