"""Verdicts that follow from annotations: an annotation that equals the given label says that it is right.

| task | verdict |
|---|---|
| `classification` | the choice equals the given class: ok; else wrong, with the class |
| `multi_label` | for each label that the tool was to show or that differs: ok, or wrong with 0 or 1 |
| `tokens` | the spans equal the given entities: ok; else wrong |
| `masks` | any region: wrong, as people draw one where the mask is not right |

A skipped example is unsure. An annotation without a result has no verdict. A verdict that the person chose as such
replaces the comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError, UnknownExampleError
from service.exports.spans import entity_parts
from service.exports.token_texts import token_text
from service.queries.attributes import attributes_of
from service.queries.last_rows import last_rows
from service.queries.view import SqlRow, View
from service.runs.run_classes import RunClasses
from service.schema.faults import fault
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import StoredReview
from service.schema.structure import Task
from service.tool_reviews.annotation import MAX_TEXT, Annotation, MarkedSpan

# Stored columns that annotations are compared with.
GIVEN: Mapping[Task, Sequence[str]] = {
    "classification": ("target",),
    "multi_label": ("targets",),
    "tokens": ("targets",),
    "masks": (),
}
Integers = NDArray[np.int32]
# Labels of an example about which an annotation may say something.
MAX_UNITS = 1000
# Entity of tokens outside of all entities.
OUTSIDE = "O"


class GivenLabels:
    """The given labels of examples: those of the last row of each.

    Args:
        view: The run.
        ids: Ids of the examples.
    """

    def __init__(self, view: View, ids: Collection[str]) -> None:
        self._run = view.snapshot.name
        self._task = view.snapshot.description.task
        self._names = view.snapshot.description.class_names
        self._classes = RunClasses(view.snapshot, labels=True)
        self._rows = last_rows(view, ids, GIVEN[self._task])
        if self._task == "multi_label":
            for row in self._rows.values():
                row["targets"] = np.array(row["targets"], np.int32)
        if self._task == "tokens":
            rows = list(self._rows.values())
            for row, attributes in zip(rows, attributes_of(view, rows), strict=True):
                row["attributes"] = attributes

    def reviews(self, annotation: Annotation) -> list[StoredReview]:
        """The reviews that an annotation makes; those without a verdict withdraw an earlier one.

        Raises:
            UnknownExampleError: The run does not have the example.
            InvalidRequestError: A choice is no class of the run, or there are several of one class.
        """
        row = self._rows.get(annotation.id)
        if row is None:
            msg = f"run {self._run} has no example {annotation.id[:100]!r}"
            raise fault(UnknownExampleError, msg, "task", "data", "external_id")
        if self._task == "multi_label":
            return self._of_labels(annotation, row["targets"])
        verdict, label, comment = self._of_example(annotation, row)
        return [self._review(annotation, verdict, label, comment=comment)]

    def _of_example(self, annotation: Annotation, row: SqlRow) -> tuple[Verdict | None, int | None, str | None]:
        """Verdict, right class and comment of a whole example."""
        labels = [self._class(text) for text in annotation.labels or ()] if self._task == "classification" else []
        if len(labels) > 1:
            raise fault(InvalidRequestError, f"{len(labels)} classes are chosen, an example has one", "annotation")
        label = labels[0] if labels else None
        if annotation.skipped:
            return "unsure", None, None
        if annotation.verdict is not None:
            return annotation.verdict, label if annotation.verdict == "wrong" else None, None
        if label is not None:
            return ("ok", None, None) if label == row["target"] else ("wrong", label, None)
        if self._task == "tokens" and annotation.spans is not None:
            return self._of_spans(annotation.id, annotation.spans, row)
        if self._task == "masks" and annotation.num_regions:
            return "wrong", None, f"regions: {annotation.num_regions}"
        return None, None, None

    def _of_labels(self, annotation: Annotation, targets: Integers) -> list[StoredReview]:
        """The reviews of the labels of a `multi_label` example."""
        shown = [unit for unit in annotation.units[:MAX_UNITS] if unit < len(targets) and targets[unit] >= 0]
        same = "unsure" if annotation.skipped else annotation.verdict
        if same is not None or annotation.labels is None:
            right = {unit: 1 - int(targets[unit]) for unit in shown} if same == "wrong" else {}
            return [self._review(annotation, same, right.get(unit), unit) for unit in shown] or [
                self._review(annotation, same, None)
            ]
        chosen = np.zeros_like(targets)
        chosen[[self._class(text) for text in annotation.labels]] = 1
        is_other = (targets >= 0) & (chosen != targets)
        if (number := np.count_nonzero(is_other)) > MAX_UNITS:
            msg = f"{number} labels differ from the given ones, {MAX_UNITS} are the most"
            raise fault(InvalidRequestError, msg, "annotation", "result")
        differing = set(np.flatnonzero(is_other).tolist())
        reviews = [
            self._review(annotation, "wrong", int(chosen[unit]), unit)
            if unit in differing
            else self._review(annotation, "ok", None, unit)
            for unit in sorted({*shown, *differing})
        ]
        return reviews or [self._review(annotation, "ok", None)]

    def _of_spans(
        self, identity: str, spans: frozenset[MarkedSpan], row: SqlRow
    ) -> tuple[Verdict | None, int | None, str | None]:
        """Verdict and comment for the spans of a sentence."""
        sentence = token_text(identity, row["attributes"], len(row["targets"]))
        if sentence is None:
            msg = "the example has no text to compare spans with: push the attributes tokens, or text and token_offsets"
            raise fault(InvalidRequestError, msg, "annotation", "result")
        names = self._token_names(row["targets"])
        given = {
            MarkedSpan(*characters, label)
            for first, stop, label in entity_parts(names)
            if label != OUTSIDE and (characters := sentence.characters(first, stop)) is not None
        }
        marked = {span for span in spans if span.label != OUTSIDE}
        if marked == given:
            return "ok", None, None
        listed = ", ".join(f"{sentence.text[start:stop]!r} {label}" for start, stop, label in sorted(marked))
        return "wrong", None, f"entities: {listed or 'none'}"

    def _token_names(self, targets: Sequence[int]) -> list[str]:
        """Name of the class of each token; an ignored one, such as the rest of a word, goes on with the one before."""
        names: list[str] = []
        for target in targets:
            name = str(target) if self._names is None else self._names[target]
            if target < 0:
                before = names[-1] if names else OUTSIDE
                name = f"I-{before[2:]}" if before.startswith(("B-", "S-", "U-")) else before
            names.append(name)
        return names

    def _class(self, text: str) -> int:
        try:
            found = self._classes.find(text)
        except ValueError as err:
            raise fault(InvalidRequestError, str(err), "annotation", "result") from err
        if found >= self._classes.number:
            msg = f"class {found} is outside [0, {self._classes.number})"
            raise fault(InvalidRequestError, msg, "annotation", "result")
        return found

    def _review(
        self,
        annotation: Annotation,
        verdict: Verdict | None,
        label: int | None,
        unit: int | None = None,
        comment: str | None = None,
    ) -> StoredReview:
        text = annotation.comment or comment
        review: StoredReview = {
            "id": annotation.id,
            "verdict": verdict,
            "label": label,
            "reviewer": annotation.reviewer,
            "queue": annotation.queue,
            "comment": None if text is None else text[:MAX_TEXT],
            "at": datetime.now(UTC).isoformat(),
            "source": annotation.source,
        }
        if self._task != "classification":
            review["unit"] = unit
        if annotation.suggestion is not None:
            review["suggestion"] = annotation.suggestion
        return review
