"""Reads the rows of an export: the rows of a queue, or of a whole epoch by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from service.exports.epoch_source import ROWS_AT_ONCE, ranked_rows
from service.exports.row_verdicts import RowVerdict, class_text
from service.exports.rows import ExportRow
from service.mining.listing import SUGGESTION_HIDDEN
from service.mining.queue_table import WITHOUT_SUGGESTION, QueueTable
from service.queries.attributes import attributes_of
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.runs.units import UnitKey
from service.schema.structure import review_classes

_COLUMNS = (
    "rank",
    "id",
    "target",
    "prediction",
    "suggested",
    "suggested_p",
    *SCORE_NAMES,
    "share",
    "strategy",
    "score",
    "reason",
    "attributes",
)


def queue_rows(view: View, queue: QueueTable, verdicts: Verdicts, *, for_tool: bool = False) -> Iterator[ExportRow]:
    """Rows of a queue in their order, with the current attributes and verdicts.

    Args:
        view: The run.
        queue: The queue.
        verdicts: Current verdict of each example.
        for_tool: True for a labelling tool, which gets no suggestions of the rows that the queue shows without; tables
            have those of rows with a verdict.
    """
    marks = queue.marks(WITHOUT_SUGGESTION)
    for first in range(0, len(queue), ROWS_AT_ONCE):
        part = queue.dicts(first, ROWS_AT_ONCE)
        for number, (row, attributes) in enumerate(zip(part, attributes_of(view, part), strict=True), first):
            exported = _export_row(view, {**row, "attributes": attributes}, verdicts)
            if marks is not None:
                is_hidden = marks[number] and (for_tool or exported.verdict is None)
                exported = without_suggestion(exported) if is_hidden else replace(exported, suggestion="shown")
            yield exported


def without_suggestion(row: ExportRow) -> ExportRow:
    """The row without all that tells the class that the model suggests."""
    hidden: Mapping[str, Any] = dict.fromkeys(("prediction", "suggested", "suggested_label", "suggested_p"))
    return replace(row, suggestion="hidden", reason=SUGGESTION_HIDDEN, **hidden)


def epoch_rows(
    view: View,
    weighting: Weighting,
    epoch: int,
    verdicts: Verdicts,
    ids: list[str] | None = None,
    *,
    units: bool = False,
) -> Iterator[ExportRow]:
    """The examples of an epoch, or the units of structured examples, largest loss first.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the scores.
        verdicts: Current verdict of each example.
        ids: Examples to read, None for all.
        units: True for units in place of examples.
    """
    for row in ranked_rows(view, weighting, epoch, ids, units=units):
        yield _export_row(view, row, verdicts)


def _export_row(view: View, row: Mapping[str, Any], verdicts: Verdicts) -> ExportRow:
    task, names = view.snapshot.description.task, view.snapshot.description.class_names
    classes, standing, unit = review_classes(task, names), verdicts.get(UnitKey.of(row)), row.get("unit")
    return ExportRow(
        **{name: row[name] for name in _COLUMNS},
        **RowVerdict.of(standing, classes)._asdict(),
        given_label=class_text(row["target"], classes),
        suggested_label=class_text(row["suggested"], classes),
        unit=unit,
        unit_name=class_text(unit, names) if task == "multi_label" else None,
        num_elements=row.get("num_elements"),
        box=row.get("box"),
    )
