"""Which columns of a table hold logits, targets and ids, and those as numpy arrays.

What `focal-loss score` and the service take of a file is the same. Imports neither torch nor a codec, so that the
command works without them.
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

# Stands for a target that is missing; no class, and no sensible ignore_index.
NO_TARGET = -(2**63)

Array = np.ndarray[Any, np.dtype[Any]]


class ColumnError(Exception):
    """A value that cannot be taken.

    Args:
        msg: What is wrong with it.
        row: In its file, from 0; None: the column as a whole.
        column: Its name; None: the row as a whole.
    """

    def __init__(self, msg: str, row: int | None, column: str | None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.row = row
        self.column = column

    @property
    def place(self) -> str:
        """Row and column in words, `row 3, column 'y'`; empty where neither is known."""
        parts = [None if self.row is None else f"row {self.row}", self.column and f"column {self.column[:100]!r}"]
        return ", ".join(part for part in parts if part)


class NotANumberError(ColumnError):
    """A value, or a whole column, is something else than a number."""


class RowLengthError(ColumnError):
    """A row of logits or targets is longer or shorter than the first."""


@dataclass(frozen=True)
class ResolvedColumns:
    """The columns of one file.

    Args:
        logits: One list column, or the columns of the classes in their order.
        targets: One column.
        id: One column, or None where there is none.
        attributes: Further columns to read.
    """

    logits: tuple[str, ...]
    targets: str
    id: str | None
    attributes: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return [*self.logits, self.targets, *([self.id] if self.id else []), *self.attributes]


def guess_logits(names: Sequence[str]) -> tuple[str, ...]:
    """`logits`, or `logit_0`, `logit_1`, ... without a gap; empty where there are neither."""
    if "logits" in names:
        return ("logits",)
    numbered = {int(match[1]): name for name in names if (match := NUMBERED.fullmatch(name))}
    if len(numbered) > 1 and sorted(numbered) == list(range(len(numbered))):
        return tuple(numbered[number] for number in sorted(numbered))
    return ()


def guess_targets(names: Sequence[str]) -> list[str]:
    """The columns that have a name of targets; without doubt only where it is one."""
    return [name for name in TARGET_NAMES if name in names]


def guess_id(names: Sequence[str]) -> str | None:
    """The column of ids, None where there is none."""
    return next((name for name in ID_NAMES if name in names), None)


def matrix(columns: Sequence[pa.Array], names: Sequence[str], first_row: int, *, keep_missing: bool) -> Array:
    """Logits (N, C), of one list column or of C number columns; a single number column gives (N,).

    Args:
        columns: As read.
        names: Of the columns.
        first_row: Of these rows in their file, for messages.
        keep_missing: A missing value becomes NaN.

    Raises:
        ColumnError: A value that is no number; a row of another length.
    """
    parts = [_numbers(column, name, first_row, keep_missing) for column, name in zip(columns, names, strict=True)]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def vector(column: pa.Array, name: str, first_row: int, *, whole: bool, keep_missing: bool) -> Array:
    """Targets (N,), or (N, L) of a list column.

    Args:
        column: As read.
        name: Of the column.
        first_row: Of these rows in their file, for messages.
        whole: Floats that are whole numbers become integers: CSV, and files in which one was missing once, have 3.0.
        keep_missing: A missing value becomes NaN, or NO_TARGET among whole numbers.

    Raises:
        ColumnError: A value that is no number; a row of another length.
    """
    values = _numbers(column, name, first_row, keep_missing)
    if not whole or values.dtype.kind != "f" or values.ndim != 1:
        return values
    missing = np.isnan(values)
    known = values[~missing]
    if (known != np.trunc(known)).any() or (np.abs(known) >= 2.0**63).any() or (missing.any() and not keep_missing):
        return values
    return np.where(missing, 0, values).astype(np.int64) + np.where(missing, NO_TARGET, 0)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list in each row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _numbers(column: pa.Array, name: str, first_row: int, keep_missing: bool) -> Array:
    if column.null_count and not keep_missing:
        raise ColumnError("no value", first_row + column.is_null().index(True).as_py(), name)
    if not is_list(column.type):
        return _flat(column, name)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    kept = column.drop_null() if column.null_count else column
    values = _flat(kept.flatten(), name)
    width = _row_length(kept, first_row + np.flatnonzero(present), name)
    if present.all():
        return values.reshape(len(column), width)
    rows = np.full((len(column), width), np.nan, values.dtype if values.dtype.kind == "f" else np.float64)
    rows[present] = values.reshape(-1, width)
    return rows


def _row_length(column: pa.Array, rows: Array, name: str) -> int:
    """The length that all lists have; `rows` are their places in the file."""
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths):
        return 0
    wrong = np.flatnonzero(lengths != lengths[0])
    if len(wrong):
        msg = f"{lengths[wrong[0]]} values, row {rows[0]} has {lengths[0]}"
        raise RowLengthError(msg, int(rows[wrong[0]]), name)
    return int(lengths[0])


def _flat(column: pa.Array, name: str) -> Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise NotANumberError(f"{column.type} is no number", None, name)
    # A null within a list becomes NaN, which the loss names with its row and column.
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
