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

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ColumnNames:
    """What the user says of the columns; None: to be guessed.

    Args:
        logits: One list column, or the columns of the classes in their order.
        targets: One column.
        id: One column, or None where there may be none.
    """

    logits: tuple[str, ...] | None = None
    targets: str | None = None
    id: str | None = None

    def resolve(self, names: Sequence[str], where: str) -> ResolvedColumns:
        """The columns of a file with these names.

        Raises:
            UsageError: A name that is not there, or nothing that could be guessed without doubt.
        """
        for name in (*(self.logits or ()), self.targets, self.id):
            if name is not None and name not in names:
                raise UsageError(f"{where}: no column {name!r}; there are {', '.join(map(repr, names))}")
        logits = self.logits or _guess_logits(names, where)
        targets = self.targets or _guess(names, TARGET_NAMES, "targets", where)
        identity = self.id or next((name for name in ID_NAMES if name in names), None)
        return ResolvedColumns(logits, targets, identity)


@dataclass(frozen=True)
class ResolvedColumns:
    """The columns of one file."""

    logits: tuple[str, ...]
    targets: str
    id: str | None

    @property
    def all(self) -> list[str]:
        return [*self.logits, self.targets, *([self.id] if self.id else [])]


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


def matrix(columns: Sequence[pa.Array], names: Sequence[str], where: str, first_row: int) -> Array:
    """Logits (N, C), of one list column or of C number columns; a single number column gives (N,).

    Raises:
        DataError: Names file, row and column of a value that is no number, or of a row of another length.
    """
    parts = [_numbers(column, name, where, first_row) for column, name in zip(columns, names, strict=True)]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def vector(column: pa.Array, name: str, where: str, first_row: int) -> Array:
    """Targets (N,), or (N, L) of a list column."""
    values = _numbers(column, name, where, first_row)
    if values.dtype.kind == "f" and values.ndim == 1 and len(values) and (values == np.trunc(values)).all():
        # CSV and JSONL write classes as 3.0 where a value was missing once.
        return values.astype(np.int64)
    return values


def _numbers(column: pa.Array, name: str, where: str, first_row: int) -> Array:
    if column.null_count:
        row = first_row + column.is_null().index(True).as_py()
        raise DataError(f"{where}, row {row}, column {name!r}: no value")
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _flat(column, name, where)
    values = _flat(column.flatten(), name, where)
    rows = len(column)
    width = len(values) // rows if rows else 0
    if not pa.types.is_fixed_size_list(kind):
        lengths = column.value_lengths().to_numpy()
        wrong = np.flatnonzero(lengths != (lengths[0] if rows else 0))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{where}, row {first_row + row}, column {name!r}: {lengths[row]} values, "
                f"row {first_row} has {lengths[0]}"
            )
    return values.reshape(rows, width)


def _flat(column: pa.Array, name: str, where: str) -> Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"{where}, column {name!r}: {column.type} is no number")
    # A null within a list becomes NaN, which the loss names with its row and column.
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
