"""Nested lists in the columns of a table: those of dense examples have equal lengths, ragged ones have offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from service.errors import InvalidRequestError
from service.formats.arrays import MAX_DIMENSIONS
from service.formats.arrow_types import is_list, plain
from service.formats.column_names import ResolvedColumns
from service.formats.columns import Array, ColumnError, RowLengthError, floats, objects_or_numbers
from service.formats.places import Place, place_at
from service.formats.ragged import check_offsets, offsets_of
from service.schema.faults import fault
from service.schema.structure import Layout

Columns: TypeAlias = Mapping[str, pa.Array | pa.ChunkedArray]


class NestedLists(NamedTuple):
    """The values in the lists of a column, in their order and without a copy.

    Args:
        values: The innermost values.
        shape: (N, C, d1, ...) of dense lists, (T,) or (T, C) of ragged ones.
        offsets: (N + 1,) int64, first element of each row of ragged lists; None of dense ones.
    """

    values: pa.Array
    shape: tuple[int, ...]
    offsets: Array | None

    def place(self, position: int) -> Place:
        """The place of a value, or of a list, by its position among all of them."""
        return place_at(position, self.shape, self.offsets)


class NestedColumns(NamedTuple):
    """The lists in the columns of dense or ragged examples.

    Args:
        numbers: Those of the logits or statistics, by the names of their columns.
        targets: Those of the targets.
    """

    numbers: dict[str, NestedLists]
    targets: NestedLists


def nested_columns(columns: Columns, names: ResolvedColumns, layout: Layout, number: int) -> NestedColumns:
    """Find the values in the columns of a batch; see `nested_lists`.

    Args:
        columns: At least those of logits or statistics, and of targets.
        names: Their names.
        layout: `dense` or `ragged`.
        number: Number of the batch, for messages.

    Raises:
        InvalidRequestError: There is a column for each class.
        ShapeError: An example has other numbers of logits and of targets.
        ColumnError: See `nested_lists`.
    """
    if len(names.logits) > 1:
        msg = f"the layout {layout} needs a column logits of lists, not one column for each class"
        raise fault(InvalidRequestError, msg, "logits", batch=number)
    numbers = {name: nested_lists(columns[name], name, layout) for name in names.numbers}
    targets = nested_lists(columns[names.targets], names.targets, layout)
    for name, lists in numbers.items():
        check_offsets(name, lists.offsets, targets.offsets, number)
    return NestedColumns(numbers, targets)


def nested_lists(column: pa.Array | pa.ChunkedArray, name: str, layout: Layout) -> NestedLists:
    """Find the values in the nested lists or tensors of a column.

    Args:
        column: The column as read.
        name: Its name.
        layout: `dense` or `ragged`.

    Raises:
        RowLengthError: A list has another length than the first one of its level.
        ColumnError: A list is missing, a row of the layout `ragged` is no list, or lists are nested too deep.
    """
    lists = NestedLists(_without_tensors(column, name), (len(column),), None)
    if layout == "ragged":
        lists = _rows_joined(lists, name)
    while is_list(lists.values.type):
        if len(lists.shape) == MAX_DIMENSIONS:
            raise ColumnError(f"more than {MAX_DIMENSIONS - 1} lists in each other", None, name)
        _check_missing(lists, name)
        # Without an element the length of its list is unknown.
        is_empty = layout == "ragged" and not len(lists.values) and not pat.is_fixed_size_list(lists.values.type)
        shape = lists.shape if is_empty else (*lists.shape, _length(lists, name))
        lists = NestedLists(plain(lists.values.flatten()), shape, lists.offsets)
    return lists


def nested_logits(lists: NestedLists, name: str, *, keep_missing: bool) -> Array:
    """Logits of the shape of nested lists; arguments and errors are those of `service.formats.columns.matrix`."""
    if not keep_missing:
        _check_missing(lists, name)
    return floats(lists.values, name, 0).reshape(lists.shape)


def nested_labels(lists: NestedLists) -> Array:
    """Labels of the shape of nested lists; see `service.formats.columns.labels_as_sent`."""
    return objects_or_numbers(lists.values).reshape(lists.shape)


def _without_tensors(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """The column as one array; tensors become lists of fixed size."""
    kind, array = column.type, plain(column)
    if not isinstance(kind, pa.FixedShapeTensorType):
        return array
    if kind.permutation not in (None, [*range(len(kind.shape))]):
        raise ColumnError(f"a tensor with the permutation {kind.permutation}: write it in its own order", None, name)
    _check_missing(NestedLists(array, (len(array),), None), name)
    values = array.flatten()
    for size in reversed(kind.shape):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def _rows_joined(lists: NestedLists, name: str) -> NestedLists:
    """The elements of all rows in one list, and the offsets of the rows."""
    column = lists.values
    _check_missing(lists, name)
    if not is_list(column.type):
        raise ColumnError("in the layout ragged a row is a list of elements", 0 if len(column) else None, name)
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    offsets = offsets_of(lengths)
    return NestedLists(plain(column.flatten()), (int(offsets[-1]),), offsets)


def _check_missing(lists: NestedLists, name: str) -> None:
    if lists.values.null_count:
        raise _error(ColumnError, "no value", name, lists.place(lists.values.is_null().index(True).as_py()))


def _length(lists: NestedLists, name: str) -> int:
    """The common length of the lists in a column of lists."""
    kind = lists.values.type
    if pat.is_fixed_size_list(kind):
        return int(kind.list_size)
    lengths = pc.list_value_length(lists.values).to_numpy(zero_copy_only=False)
    (odd,) = np.nonzero(lengths != lengths[:1])
    if len(odd):
        msg = f"{lengths[odd[0]]} values, the first list has {lengths[0]}"
        raise _error(RowLengthError, msg, name, lists.place(int(odd[0])))
    return int(lengths[0]) if len(lengths) else 0


def _error(kind: type[ColumnError], msg: str, name: str, place: Place) -> ColumnError:
    return kind(msg, place["row"], name, place["column"], place["element"])
