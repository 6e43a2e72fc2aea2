"""The logits, targets and ids in a table: finds their columns by name, and converts them to NumPy arrays.

The service and `focal-loss score` accept the same tables. Imports neither torch nor a codec, so that the command works
without them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

TARGET_NAMES = ("targets", "target", "labels", "label", "y")
ID_NAMES = ("id", "ids")
NUMBERED = re.compile(r"logits?[_.-]?(\d{1,9})")

# Target of a row without one: neither a class nor a sensible ignore_index.
NO_TARGET = -(2**63)

Array = np.ndarray[Any, np.dtype[Any]]


class ColumnError(Exception):
    """An invalid value in a table.

    Args:
        msg: Describes the error.
        row: Row in the file, from 0; None: the whole column.
        column: Name of the column; None: the whole row.
    """

    def __init__(self, msg: str, row: int | None, column: str | None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.row = row
        self.column = column

    @property
    def place(self) -> str:
        """Row and column as text, `row 3, column 'y'`; empty if neither is known."""
        parts = [None if self.row is None else f"row {self.row}", self.column and f"column {self.column[:100]!r}"]
        return ", ".join(part for part in parts if part)


class NotANumberError(ColumnError):
    """A value or a whole column is not numeric."""


class RowLengthError(ColumnError):
    """A row of logits or targets does not have the length of the first one."""


@dataclass(frozen=True)
class ResolvedColumns:
    """The names of the columns of one file.

    Args:
        logits: One list column, or one column per class, in the order of the classes.
        targets: The column of targets.
        id: The column of ids, or None.
        attributes: Other columns to read.
    """

    logits: tuple[str, ...]
    targets: str
    id: str | None
    attributes: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return [*self.logits, self.targets, *([self.id] if self.id else []), *self.attributes]


def guess_logits(names: Sequence[str]) -> tuple[str, ...]:
    """Find `logits`, or `logit_0`, `logit_1`, ... without a gap; empty if there are neither."""
    if "logits" in names:
        return ("logits",)
    numbered = {int(match[1]): name for name in names if (match := NUMBERED.fullmatch(name))}
    if len(numbered) > 1 and sorted(numbered) == list(range(len(numbered))):
        return tuple(numbered[number] for number in sorted(numbered))
    return ()


def guess_targets(names: Sequence[str]) -> list[str]:
    """Find the columns whose name is usual for targets; the guess is good only if there is exactly one."""
    return [name for name in TARGET_NAMES if name in names]


def guess_id(names: Sequence[str]) -> str | None:
    """Find the column of ids; None if there is none."""
    return next((name for name in ID_NAMES if name in names), None)


def matrix(columns: Sequence[pa.Array], names: Sequence[str], first_row: int, *, keep_missing: bool) -> Array:
    """Logits (N, C) of one list column or of C columns of numbers; (N,) of a single column of numbers.

    Args:
        columns: The columns as read.
        names: Their names.
        first_row: Position of the first row in the file, for messages.
        keep_missing: Convert missing values to NaN instead of raising.

    Raises:
        ColumnError: A value is not a number, or a row has another length.
    """
    parts = [
        _column_numbers(column, name, first_row, keep_missing) for column, name in zip(columns, names, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def vector(column: pa.Array, name: str, first_row: int, *, whole: bool, keep_missing: bool) -> Array:
    """Targets (N,), or (N, L) of a list column.

    Args:
        column: The column as read.
        name: Its name.
        first_row: Position of the first row in the file, for messages.
        whole: Convert floats to integers if all are whole: CSV has 3.0, and so have files with missing values.
        keep_missing: Convert missing values to NaN, or NO_TARGET among integers, instead of raising.

    Raises:
        ColumnError: A value is not a number, or a row has another length.
    """
    values = _column_numbers(column, name, first_row, keep_missing)
    if not whole or values.dtype.kind != "f" or values.ndim != 1:
        return values
    missing = np.isnan(values)
    known = values[~missing]
    if (known != np.trunc(known)).any() or (np.abs(known) >= 2.0**63).any() or (missing.any() and not keep_missing):
        return values
    return np.where(missing, 0, values).astype(np.int64) + np.where(missing, NO_TARGET, 0)


def is_list(kind: pa.DataType) -> bool:
    """True if the column has a list in each row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def row_length(column: pa.Array, rows: Sequence[int] | Array, name: str) -> int:
    """The common length of the lists of a column.

    Args:
        column: Lists without nulls.
        rows: Position of each list in the file or batch, for messages.
        name: Name of the column.

    Raises:
        RowLengthError: A list has another length than the first one.
    """
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths):
        return 0
    (odd,) = np.nonzero(lengths != lengths[0])
    if len(odd):
        raise RowLengthError(f"{lengths[odd[0]]} values, row {rows[0]} has {lengths[0]}", int(rows[odd[0]]), name)
    return int(lengths[0])


def _column_numbers(column: pa.Array, name: str, first_row: int, keep_missing: bool) -> Array:
    if column.null_count and not keep_missing:
        raise ColumnError("no value", first_row + column.is_null().index(True).as_py(), name)
    if not is_list(column.type):
        return _flat_numbers(column, name)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lists = column.drop_null() if column.null_count else column
    values = _flat_numbers(lists.flatten(), name)
    width = row_length(lists, first_row + np.flatnonzero(present), name)
    if present.all():
        return values.reshape(len(column), width)
    rows = np.full((len(column), width), np.nan, values.dtype if values.dtype.kind == "f" else np.float64)
    rows[present] = values.reshape(-1, width)
    return rows


def _flat_numbers(column: pa.Array, name: str) -> Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise NotANumberError(f"{column.type} is not a number", None, name)
    # A null in a list becomes NaN, and the loss raises an error with its row and column.
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
