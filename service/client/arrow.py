"""Arrow tables and columns as arrays. Only `service.client.arrays` imports this, for values that are Arrow's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.arrow_types import plain
from service.formats.column_names import ResolvedColumns, find_columns
from service.formats.columns import ColumnError, RowLengthError, ids_of_column, labels_as_sent, matrix
from service.formats.nested import nested_columns, nested_labels, nested_logits
from service.formats.part_names import OFFSETS, NamesError
from service.schema.faults import fault
from service.schema.request import Column, Ids
from service.schema.structure import Layout


def table_parts(table: Any, number: int, layout: Layout) -> Mapping[str, object]:
    """Return the logits or statistics, labels, ids and offsets of a table, whose columns are named as in every format.

    Args:
        table: Table or record batch of Arrow, or a data frame that can be converted to one.
        number: Number of the batch, for error messages.
        layout: Layout of the batch; rows of other layouts than `rows` are nested lists.

    Raises:
        InvalidRequestError: A column is missing, or its values are invalid. A subclass names the fault.
    """
    table, names = _named_columns(table, number)
    ids = {} if names.id is None else {"ids": arrow_ids(table.column(names.id), number)}
    if layout != "rows":
        return _nested_parts(table, names, number, layout) | ids
    parts: dict[str, object] = {name: arrow_logits([table.column(name)], number, name) for name in names.statistics}
    if names.logits:
        parts["logits"] = arrow_logits([table.column(name) for name in names.logits], number)
    return parts | {"targets": arrow_labels(table.column(names.targets), number)} | ids


def _nested_parts(table: Any, names: ResolvedColumns, number: int, layout: Layout) -> dict[str, Column]:
    """The logits or statistics and the labels of nested lists, and the offsets of ragged ones."""
    columns = {name: table.column(name) for name in (*names.numbers, names.targets)}
    try:
        lists, targets = nested_columns(columns, names, layout, number)
        parts = {part: nested_logits(values, part, keep_missing=part != "logits") for part, values in lists.items()}
    except ColumnError as err:
        raise _fault(err, err.column if err.column in names.numbers else "targets", number) from err
    offsets = {} if targets.offsets is None else {OFFSETS: targets.offsets}
    return parts | {"targets": nested_labels(targets)} | offsets


def table_labels(table: Any, number: int) -> Column:
    """Return the labels of a table of the layout `rows`; arguments and errors are those of `table_parts`."""
    table, names = _named_columns(table, number)
    return arrow_labels(table.column(names.targets), number)


def _named_columns(table: Any, number: int) -> tuple[pa.Table | pa.RecordBatch, ResolvedColumns]:
    if not isinstance(table, pa.Table | pa.RecordBatch):
        try:
            table = pa.table(table)
        except (pa.ArrowException, TypeError, ValueError) as err:
            raise InvalidRequestError(f"batch {number}: {type(table).__name__} is no table: {err}") from err
    try:
        return table, find_columns(table.schema.names)
    except NamesError as err:
        raise fault(InvalidRequestError, err.msg, err.part, batch=number) from err


def arrow_logits(columns: Sequence[Any], number: int, part: str = "logits") -> Column:
    """Convert a column of lists, or a column of numbers for each class, to logits (N, C) or a statistic."""
    try:
        return matrix([plain(column) for column in columns], [part] * len(columns), 0, keep_missing=part != "logits")
    except ColumnError as err:
        raise _fault(err, part, number) from err


def arrow_labels(column: Any, number: int) -> Column:
    """Convert a column to labels (N,) or (N, L) as they are: numbers, booleans or objects."""
    try:
        return labels_as_sent(plain(column), "targets", 0)
    except ColumnError as err:
        raise _fault(err, "targets", number) from err


def arrow_ids(column: Any, number: int) -> Ids:
    """Convert a column to ids."""
    try:
        return ids_of_column(plain(column), "ids", 0)
    except ColumnError as err:
        raise _fault(err, "ids", number) from err


def _fault(err: ColumnError, part: str, number: int) -> InvalidRequestError:
    kinds: dict[str, type[InvalidRequestError]] = {"targets": InvalidTargetError, "ids": InvalidIdsError}
    kind = kinds.get(part, InvalidRequestError)
    place: dict[str, Any] = {"row": err.row, "element": err.element, "column": err.item}
    return fault(ShapeError if isinstance(err, RowLengthError) else kind, err.msg, part, batch=number, **place)
