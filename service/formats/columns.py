"""The logits, labels and ids in the columns of a table as NumPy arrays and lists.

The service and `focal-loss score` accept the same tables. Imports neither torch nor a codec, so that the command works
without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from service.formats.arrow_types import innermost, is_list, is_number, is_text, plain
from service.formats.ids import IdError, described, id_list
from service.formats.labels import ClassNames, LabelError, class_labels, number_labels
from service.formats.places import NESTED_HINT
from service.schema.faults import element_text

Array = np.ndarray[Any, np.dtype[Any]]


class ColumnError(Exception):
    """An invalid value in a table.

    Args:
        msg: Describes the error.
        row: Row in the file, from 0; None: the whole column.
        column: Name of the column; None: the whole row.
        item: Position in the list of the row or of the element, from 0; None: the whole value.
        element: Index of the element in nested lists of the row; empty: the row is the element, or all of them.
    """

    def __init__(
        self, msg: str, row: int | None, column: str | None, item: int | None = None, element: Sequence[int] = ()
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.row = row
        self.column = column
        self.item = item
        self.element = element

    @property
    def place(self) -> str:
        """The place as text, such as `row 3, column 'y'` or `row 3, element 5, column 0 of 'logits'`."""
        row = None if self.row is None else f"row {self.row}"
        element = f"element {element_text(self.element)}" if self.element else None
        column = self.column and f"column {'' if self.item is None else f'{self.item} of '}{self.column[:100]!r}"
        return ", ".join(part for part in (row, element, column) if part)


class NotANumberError(ColumnError):
    """A value or a whole column is not numeric."""


class RowLengthError(ColumnError):
    """A row of logits or targets does not have the length of the first one."""


def matrix(columns: Sequence[pa.Array], names: Sequence[str], first_row: int, *, keep_missing: bool) -> Array:
    """Logits (N, C) of one list column or of C columns of numbers; (N,) of a single column of numbers.

    Args:
        columns: The columns as read.
        names: Their names.
        first_row: Position of the first row in the file, for messages.
        keep_missing: Convert missing values to NaN instead of raising.

    Returns:
        Floats; integers and decimals become float64.

    Raises:
        ColumnError: A value is not a number, or a row has another length.
    """
    named = [(one_array(column, name), name) for column, name in zip(columns, names, strict=True)]
    missing = [(column.is_null().index(True).as_py(), name) for column, name in named if column.null_count]
    if missing and not keep_missing:
        row, name = min(missing, key=lambda place: place[0])
        raise ColumnError("no value", first_row + row, name)
    parts = [_logits(column, name, first_row, keep_missing) for column, name in named]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def vector(
    column: pa.Array,
    name: str,
    first_row: int,
    *,
    whole: bool,
    keep_missing: bool,
    class_names: ClassNames | None = None,
) -> Array:
    """Labels (N,), or (N, L) of a list column, as numbers.

    Args:
        column: The column as read.
        name: Its name.
        first_row: Position of the first row in the file, for messages.
        whole: The labels are classes; else numbers between 0 and 1.
        keep_missing: Convert what is no label to NaN, or NO_TARGET among classes, instead of raising.
        class_names: Names of the classes.

    Raises:
        ColumnError: A value is no label, or a row has another length.
    """
    values = labels_as_sent(column, name, first_row)
    return numeric_labels(values, name, first_row, whole=whole, keep_missing=keep_missing, class_names=class_names)


def numeric_labels(
    values: Array, name: str, first_row: int, *, whole: bool, keep_missing: bool, class_names: ClassNames | None
) -> Array:
    """Labels (N,) or (N, L) as numbers; arguments and errors are those of `vector`."""
    convert = class_labels if whole and values.ndim == 1 else number_labels
    try:
        return convert(values, class_names, exclude=keep_missing)
    except LabelError as err:
        raise ColumnError(err.msg, first_row + err.row, name) from err


def labels_as_sent(column: pa.Array, name: str, first_row: int) -> Array:
    """The labels (N,) or (N, L) of a column, which `class_labels` and `number_labels` convert.

    Returns:
        The numbers or booleans; objects if there are other values, None for a missing one.

    Raises:
        RowLengthError: A row has another length.
        ColumnError: A row of a list column is missing.
    """
    column = one_array(column, name)
    if not is_list(column.type):
        return objects_or_numbers(column)
    if column.null_count:
        raise ColumnError("no value", first_row + column.is_null().index(True).as_py(), name)
    width = row_length(column, range(first_row, first_row + len(column)), name)
    return objects_or_numbers(plain(column.flatten())).reshape(len(column), width)


def one_array(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Decode a column whose rows are values or lists of values; see `plain`.

    Raises:
        ColumnError: A row is a tensor of several dimensions.
    """
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) != 1:
        raise ColumnError(f"a tensor of a row has one dimension, got shape {list(kind.shape)}", None, name)
    return plain(column)


def num_objects(column: pa.Array) -> int:
    """The number of labels in a column, or in its lists, that become Python objects."""
    column = innermost(column)
    return 0 if _is_numeric(column) else len(column)


def _is_numeric(column: pa.Array) -> bool:
    kind = column.type
    return not column.null_count and bool(pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind))


def objects_or_numbers(column: pa.Array) -> Array:
    """The labels in a decoded column without lists; see `labels_as_sent`."""
    if _is_numeric(column):
        numbers: Array = column.to_numpy(zero_copy_only=False)
        return numbers
    values = np.empty(len(column), object)
    values[:] = _decoded(column)
    return values


def _decoded(column: pa.Array) -> list[Any]:
    """Python values; bytes become texts, with a replacement for what is not UTF-8."""
    values: list[Any] = column.to_pylist()
    if pat.is_binary(column.type) or pat.is_large_binary(column.type) or pat.is_fixed_size_binary(column.type):
        return [value if value is None else value.decode(errors="backslashreplace") for value in values]
    # A dictionary is not hashable, so it cannot be looked up as a label.
    return [value if value.__hash__ else described(value) for value in values] if pat.is_nested(column.type) else values


def ids_of_column(column: pa.Array, name: str, first_row: int) -> list[str | int]:
    """The ids in a column.

    Raises:
        ColumnError: A value that cannot be an id; names the first one.
    """
    column = plain(column)
    values: list[str | int] = column.to_pylist()
    if not column.null_count and (is_text(column.type) or pat.is_integer(column.type)):
        return values
    return ids_of(values, name, first_row)


def ids_of(values: Sequence[Any], name: str, first_row: int) -> list[str | int]:
    """Convert the values of a column to ids.

    Raises:
        ColumnError: A value that cannot be an id; names the first one.
    """
    try:
        return id_list(values)
    except IdError as err:
        raise ColumnError(err.msg, first_row + err.row, name) from err


def row_length(column: pa.Array, rows: Sequence[int] | Array, name: str) -> int:
    """The common length of the lists of a column.

    Args:
        column: Lists without nulls.
        rows: Position of each list in the file or batch, for messages.
        name: Name of the column.

    Raises:
        RowLengthError: A list has another length than the first one.
    """
    if pat.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths):
        return 0
    (odd,) = np.nonzero(lengths != lengths[0])
    if len(odd):
        raise RowLengthError(f"{lengths[odd[0]]} values, row {rows[0]} has {lengths[0]}", int(rows[odd[0]]), name)
    return int(lengths[0])


def _logits(column: pa.Array, name: str, first_row: int, keep_missing: bool) -> Array:
    if not is_list(column.type):
        return floats(column, name, first_row)
    if not column.null_count:
        rows = range(first_row, first_row + len(column))
        width = row_length(column, rows, name)
        return _items(column, name, rows, width, keep_missing).reshape(len(column), width)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    places = first_row + np.flatnonzero(present)
    lists = column.drop_null()
    width = row_length(lists, places, name)
    values = _items(lists, name, places, width, keep_missing)
    with_missing = np.full((len(column), width), np.nan, values.dtype)
    with_missing[present] = values.reshape(-1, width)
    return with_missing


def _items(lists: pa.Array, name: str, rows: Sequence[int] | Array, width: int, keep_missing: bool) -> Array:
    """The values of lists of one length; `rows` has the row of each list."""
    items = plain(lists.flatten())
    if items.null_count and not keep_missing:
        place, item = divmod(items.is_null().index(True).as_py(), width)
        raise ColumnError("no value", int(rows[place]), name, item)
    return floats(items, name, int(rows[0]) if len(rows) else 0)


def floats(column: pa.Array, name: str, row: int) -> Array:
    """The numbers of a decoded column without lists as floats, NaN for a missing one; see `matrix`."""
    if not is_number(column.type) and not pat.is_null(column.type):
        msg = f"a list is not a number: {NESTED_HINT}" if is_list(column.type) else f"{column.type} is not a number"
        raise NotANumberError(msg, row, name)
    if not pat.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
