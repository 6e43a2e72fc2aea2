"""Units that confident learning counts as errors: those with a marked label, token or pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Booleans
from service.diagnostics.elements.class_issues import ClassMarker, find_class_issues
from service.diagnostics.elements.labels import LabelMarker, find_label_issues
from service.diagnostics.elements.run_chunks import (
    class_chunks,
    label_chunks,
    placed_class_chunks,
    placed_label_chunks,
    reason_without_issues,
)
from service.errors import InvalidRequestError
from service.queries.element_losses import unit_numbers, unit_places
from service.queries.view import View

_UNIT_COLUMNS = ("unit_offsets", "unit_elements")
_SCHEMA = pa.schema({"batch": pa.string(), "row": pa.int32(), "unit": pa.int32()})


def unit_suspects(view: View, epoch: int) -> pa.Table:
    """The units of an epoch with an element that confident learning marks, as `batch`, `row` and number of the `unit`.

    Raises:
        InvalidRequestError: The epoch has no label issues of elements; says why.
    """
    reason = reason_without_issues(view, epoch)
    if reason is not None:
        raise InvalidRequestError(f"there are no suspected_errors: {reason}")
    tables = [_SCHEMA.empty_table()]
    if view.num_examples(epoch):
        tables += (_marked_units(rows, marks) for rows, marks in _marks(view, epoch))
    return pa.concat_tables(tables)


def _marks(view: View, epoch: int) -> Iterator[tuple[pa.RecordBatch, Booleans]]:
    """Stored rows, and the marks of their elements, flat."""
    num_classes = view.snapshot.num_classes or 2
    if view.snapshot.description.task == "multi_label":
        labels = LabelMarker(find_label_issues(label_chunks(view, epoch), num_classes))
        for rows, label_chunk in placed_label_chunks(view, epoch, _UNIT_COLUMNS):
            yield rows, labels.mark(label_chunk).reshape(-1)
    else:
        classes = ClassMarker(find_class_issues(class_chunks(view, epoch), num_classes))
        for rows, class_chunk in placed_class_chunks(view, epoch, _UNIT_COLUMNS):
            yield rows, classes.mark(class_chunk).reshape(-1)


def _marked_units(rows: pa.RecordBatch, marks: Booleans) -> pa.Table:
    """The units of stored rows with a marked element."""
    sizes, places = unit_places(rows)
    if not len(sizes):
        return _SCHEMA.empty_table()
    is_marked = np.logical_or.reduceat(marks[places], np.cumsum(sizes) - sizes)
    example, numbers = (values[is_marked] for values in unit_numbers(rows))
    columns = [rows["batch"].take(pa.array(example)), rows["row"].take(pa.array(example)), numbers.astype(np.int32)]
    return pa.table(columns, _SCHEMA)
