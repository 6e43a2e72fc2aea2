"""Rows for labelling tools of a run of structured examples: one for each example, with its units.

A tool shows an example once, however many of its units are in a queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from service.exports.element_file import ElementFile, ElementPart
from service.exports.elements import RowElements
from service.exports.label_sets import given_labels, predicted_labels
from service.exports.row_verdicts import RowVerdict
from service.exports.rows import ExportOptions, ExportRow
from service.mining.queue_table import QueueTable
from service.queries.view import View
from service.runs.review_history import Verdicts
from service.runs.units import WHOLE, UnitKey, unit_json
from service.schema.replies.exports import ExportFormatName
from service.schema.structure import Task, review_classes

EXAMPLES_AT_ONCE = 1_000


def by_example(queue: QueueTable) -> QueueTable:
    """The queue with all rows of an example at the place of its first one."""
    codes = pc.dictionary_encode(queue.rows["id"]).combine_chunks().indices.to_numpy()
    return queue.with_rows(queue.rows.take(np.argsort(codes, kind="stable")))


def first_examples(rows: Iterable[ExportRow], limit: int) -> list[ExportRow]:
    """The rows of the first examples, at most `limit` of them; those of an example follow each other."""
    return list(chain.from_iterable(islice(_examples(rows), limit)))


def _examples(rows: Iterable[ExportRow]) -> Iterator[list[ExportRow]]:
    return (list(group) for _, group in groupby(rows, attrgetter("id")))


def element_parts(format_name: ExportFormatName, task: Task) -> list[ElementPart]:
    """The elements that a format shows for a task: those of units in texts and masks, all labels, whole masks."""
    if format_name == "fiftyone":
        return ["all"]
    return ["units", "all"] if task == "multi_label" else ["units"]


def tool_rows(
    view: View,
    folder: Path,
    rows: Iterable[ExportRow],
    verdicts: Verdicts,
    options: ExportOptions,
    parts: Sequence[ElementPart],
    ids: Sequence[str] | None = None,
) -> Iterator[ExportRow]:
    """Yield the first row of each example, with the elements of the units of its rows; of a whole example all units.

    The verdict of such a row is that on the whole example, and each of its units has its own.

    Args:
        view: The run.
        folder: Folder for a temporary file.
        rows: Rows in the order of review; those of an example follow each other. They are read after the elements.
        verdicts: Current verdicts on examples and units.
        options: Options of the export.
        parts: The elements that the tool shows; see `element_parts`.
        ids: Ids of the rows; None for all of the epoch.
    """
    file = ElementFile(view, folder, options.epoch, ids, parts)
    examples = _examples(rows)
    while some := list(islice(examples, EXAMPLES_AT_ONCE)):
        for group, elements in zip(some, file.read([group[0].id for group in some]), strict=True):
            yield _example(group, elements, verdicts, options)


def _example(
    group: Sequence[ExportRow], elements: RowElements | None, verdicts: Verdicts, options: ExportOptions
) -> ExportRow:
    """The first row of an example; without elements if they were deleted since the queue was made."""
    whole = any(row.unit is None for row in group)
    identity, classes = group[0].id, review_classes(options.task, options.class_names)

    def verdict_on(unit: str) -> RowVerdict:
        return RowVerdict.of(verdicts.get(UnitKey(identity, unit)), classes)

    if elements is not None:
        some = elements.only(None if whole else [unit_json(row.unit) for row in group])
        units = tuple(replace(unit, verdict=verdict_on(unit_json(unit.name))) for unit in some.units)
        elements = replace(some, units=units)
    # The tool shows all units of an example together.
    first = next((row for row in group if row.suggestion == "hidden"), group[0])
    row = replace(first, rank=group[0].rank, elements=elements, **verdict_on(WHOLE)._asdict())
    if options.task != "multi_label":
        return row
    shown = predicted_labels(row, options) if row.suggestion != "hidden" else []
    predicted = ", ".join(label for label, _ in shown)
    return replace(row, given_label=", ".join(given_labels(row, options)), suggested_label=predicted)
