"""Which columns of a file hold logits, targets and ids, and those as numpy arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from service.scoring.errors import DataError, UsageError

TARGET_NAMES = ("targets", "target", "labels", "label", "y")
ID_NAMES = ("id", "ids")
NUMBERED = re.compile(r"logits?[_.-]?(\d+)")

# Stands for a target that is missing; no class, and no sensible ignore_index.
NO_TARGET = -(2**63)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ColumnNames:
    """What the user says of the columns; None: to be guessed.

    Args:
        logits: One list column, or the columns of the classes in their order.
        targets: One column.
        id: One column, or None where there may be none.
        attributes: Further columns to read; None: all that are left.
    """

    logits: tuple[str, ...] | None = None
    targets: str | None = None
    id: str | None = None
    attributes: tuple[str, ...] | None = ()

    def resolve(self, names: Sequence[str], where: str) -> ResolvedColumns:
        """The columns of a file with these names.

        Raises:
            UsageError: A name that is not there, or nothing that could be guessed without doubt.
        """
        for name in (*(self.logits or ()), self.targets, self.id, *(self.attributes or ())):
            if name is not None and name not in names:
                raise UsageError(f"{where}: no column {name!r}; there are {', '.join(map(repr, names))}")
        logits = self.logits or _guess_logits(names, where)
        targets = self.targets or _guess(names, TARGET_NAMES, "targets", where)
        identity = self.id or next((name for name in ID_NAMES if name in names), None)
        used = {*logits, targets, identity}
        attributes = names if self.attributes is None else self.attributes
        return ResolvedColumns(logits, targets, identity, tuple(name for name in attributes if name not in used))


@dataclass(frozen=True)
class ResolvedColumns:
    """The columns of one file."""

    logits: tuple[str, ...]
    targets: str
    id: str | None
    attributes: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return [*self.logits, self.targets, *([self.id] if self.id else []), *self.attributes]


def _guess_logits(names: Sequence[str], where: str) -> tuple[str, ...]:
    if "logits" in names:
        return ("logits",)
    numbered = {int(match[1]): name for name in names if (match := NUMBERED.fullmatch(name))}
    if len(numbered) > 1 and sorted(numbered) == list(range(len(numbered))):
        return tuple(numbered[number] for number in sorted(numbered))
    raise UsageError(
        f"{where}: name the logits with --logits: no column 'logits' and no logit_0, logit_1, ... among "
        f"{', '.join(map(repr, names))}"
    )


def _guess(names: Sequence[str], candidates: Sequence[str], what: str, where: str) -> str:
    found = [name for name in candidates if name in names]
    if len(found) == 1:
        return found[0]
    fault = f"both {found[0]!r} and {found[1]!r} could be it" if found else f"no column {', '.join(candidates)}"
    raise UsageError(f"{where}: name the {what} with --{what}: {fault}")


@dataclass(frozen=True)
class Place:
    """Where a chunk begins.

    Args:
        path: Of the file.
        first_row: In that file, from 0.
    """

    path: str
    first_row: int

    def fault(self, row: int, name: str, msg: str) -> DataError:
        """The error that names a value of the chunk's row."""
        return DataError(f"{self.path}, row {self.first_row + row}, column {name!r}: {msg}")


def matrix(columns: Sequence[pa.Array], names: Sequence[str], place: Place, *, keep_missing: bool) -> Array:
    """Logits (N, C), of one list column or of C number columns; a single number column gives (N,).

    Args:
        columns: As read.
        names: Of the columns.
        place: For messages.
        keep_missing: A missing value becomes NaN.

    Raises:
        DataError: Names file, row and column of a value that is no number, or of a row of another length.
    """
    parts = [_numbers(column, name, place, keep_missing) for column, name in zip(columns, names, strict=True)]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def vector(column: pa.Array, name: str, place: Place, *, whole: bool, keep_missing: bool) -> Array:
    """Targets (N,), or (N, L) of a list column.

    Args:
        column: As read.
        name: Of the column.
        place: For messages.
        whole: Floats that are whole numbers become integers: CSV, and files in which one was missing once, have 3.0.
        keep_missing: A missing value becomes NaN, or NO_TARGET among whole numbers.
    """
    values = _numbers(column, name, place, keep_missing)
    if not whole or values.dtype.kind != "f" or values.ndim != 1:
        return values
    missing = np.isnan(values)
    if (values[~missing] != np.trunc(values[~missing])).any() or (missing.any() and not keep_missing):
        return values
    return np.where(missing, 0, values).astype(np.int64) + np.where(missing, NO_TARGET, 0)


def _numbers(column: pa.Array, name: str, place: Place, keep_missing: bool) -> Array:
    if column.null_count and not keep_missing:
        raise place.fault(column.is_null().index(True).as_py(), name, "no value")
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _flat(column, name, place)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    kept = column.drop_null() if column.null_count else column
    values = _flat(kept.flatten(), name, place)
    width = _row_length(kept, np.flatnonzero(present), name, place)
    if present.all():
        return values.reshape(len(column), width)
    rows = np.full((len(column), width), np.nan, values.dtype if values.dtype.kind == "f" else np.float64)
    rows[present] = values.reshape(-1, width)
    return rows


def _row_length(column: pa.Array, rows: Array, name: str, place: Place) -> int:
    """The length that all lists have; `rows` are their places in the chunk."""
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths):
        return 0
    wrong = np.flatnonzero(lengths != lengths[0])
    if len(wrong):
        first = f"row {place.first_row + int(rows[0])} has {lengths[0]}"
        raise place.fault(int(rows[wrong[0]]), name, f"{lengths[wrong[0]]} values, {first}")
    return int(lengths[0])


def _flat(column: pa.Array, name: str, place: Place) -> Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"{place.path}, column {name!r}: {column.type} is no number")
    # A null within a list becomes NaN, which the loss names with its row and column.
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
