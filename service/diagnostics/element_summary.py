"""The member `elements` of the diagnostics: the labels, tokens or pixels of an epoch of a structured run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from service.diagnostics.chunks import Floats, Integers
from service.diagnostics.classes import TABLE_CLASSES
from service.diagnostics.elements.element_counts import COLUMNS, ElementCounts
from service.diagnostics.elements.run_chunks import reason_without_issues
from service.diagnostics.elements.run_issues import RunIssues, run_issues
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.element_diagnostics import ElementClass, ElementConfusion, ElementDiagnostics

LARGEST_CONFUSIONS = 100


def element_diagnostics(view: View, weighting: Weighting, epoch: int) -> ElementDiagnostics:
    """Count and rank the elements of an epoch, and find their label issues."""
    of_labels = view.snapshot.description.task == "multi_label"
    counts = _counts(view, weighting, epoch)
    issues = None
    if counts.num_valid and reason_without_issues(view, epoch) is None:
        key = ("diagnostics", epoch, "label_issues")
        issues = view.cached(key, lambda: run_issues(view, epoch))
    table, has_predictions = _Table(counts, of_labels=of_labels), not view.has_counts(epoch)
    num_wrong, num_units, loss = int(table.num_wrong.sum()), int(table.num_units.sum()), float(counts.loss.sum())
    reply: ElementDiagnostics = {
        "num_elements": counts.num_elements,
        "num_valid": counts.num_valid,
        "num_ignored": counts.num_elements - counts.num_valid,
        "num_wrong": num_wrong,
        "error_rate": num_wrong / counts.num_valid if counts.num_valid and has_predictions else None,
        "num_units": num_units,
        "num_examples_wrong": counts.num_examples_wrong,
        "loss_sum": loss,
        "classes": _classes(table, view.snapshot.description.class_names, issues, has_predictions=has_predictions),
        "confusions": _confusions(counts, of_labels=of_labels),
        "label_issues": None if issues is None else issues["summary"],
    }
    if issues is not None and "entities" in issues:
        reply["entities"] = issues["entities"]
    return reply


def _counts(view: View, weighting: Weighting, epoch: int) -> ElementCounts:
    counts = ElementCounts(view.snapshot.description.task, view.snapshot.num_classes or 0)
    losses = view.element_losses(weighting)
    for rows in view.stored_batches(epoch, COLUMNS):
        counts.add(rows, losses.of_elements(rows))
    return counts


class _Table:
    """Sums by class or, of multi_label, by label: (C,) each."""

    def __init__(self, counts: ElementCounts, *, of_labels: bool) -> None:
        cells, _, (wrong, units, _) = counts.wrong.total()
        number = len(counts.count)
        self.num_positive: Integers | None = counts.count[1::2] if of_labels else None
        self.count: Integers = _by_label(counts.count, of_labels)
        self.loss: Floats = _by_label(counts.loss, of_labels)
        self.num_wrong = _by_label(np.bincount(cells, wrong, number).astype(np.int64), of_labels)
        self.num_units = _by_label(np.bincount(cells, units, number).astype(np.int64), of_labels)


def _by_label(values: Any, of_labels: bool) -> Any:
    """Sums of the cells of each label; of classes the same."""
    return values.reshape(-1, 2).sum(axis=1) if of_labels else values


def _classes(
    table: _Table, names: Sequence[str] | None, issues: RunIssues | None, *, has_predictions: bool
) -> list[ElementClass]:
    numbers = np.arange(len(table.count))
    if len(numbers) > TABLE_CLASSES:
        numbers = np.sort(np.argsort(-table.loss, kind="stable")[:TABLE_CLASSES])
    total = float(table.loss.sum())
    rows = []
    for label in numbers.tolist():
        count, loss, wrong = int(table.count[label]), float(table.loss[label]), int(table.num_wrong[label])
        row: dict[str, object] = {"class": label, "name": None if names is None else names[label], "count": count}
        if table.num_positive is not None:
            row["num_positive"] = int(table.num_positive[label])
        row |= {
            "num_wrong": wrong,
            "error_rate": wrong / count if count and has_predictions else None,
            "num_units": int(table.num_units[label]),
            "loss_sum": loss,
            "loss_share": loss / total if total and math.isfinite(total) else None,
            "mean_loss": loss / count if count else None,
        }
        if issues is not None:
            row |= {name: values[label] for name, values in issues["by_class"].items()}
        rows.append(cast("ElementClass", row))
    return rows


def _confusions(counts: ElementCounts, *, of_labels: bool) -> list[ElementConfusion]:
    cells, predictions, sums = counts.wrong.total()
    order = np.argsort(-sums[0], kind="stable")[:LARGEST_CONFUSIONS]
    rows: list[ElementConfusion] = []
    for cell, prediction, (count, units, loss) in zip(
        cells[order].tolist(), predictions[order].tolist(), sums[:, order].T.tolist(), strict=True
    ):
        row: ElementConfusion = {
            "target": cell % 2 if of_labels else cell,
            "prediction": prediction,
            "count": int(count),
            "num_units": int(units),
            "loss_sum": loss,
        }
        rows.append({"label": cell // 2, **row} if of_labels else row)
    return rows
