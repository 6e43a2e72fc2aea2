"""Rows of a large reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")
ROWS_AT_ONCE = 10_000


class RowParts(Sequence[T]):
    """Rows that are made in parts, so that only one part at a time exists as Python objects while it is encoded.

    Args:
        number: Number of rows.
        make: Makes the rows from a first one to a last one, which is not included.
    """

    def __init__(self, number: int, make: Callable[[int, int], list[T]]) -> None:
        self._number, self._make = number, make

    def parts(self) -> Iterator[list[T]]:
        """The rows in parts, none of which is empty."""
        for first in range(0, self._number, ROWS_AT_ONCE):
            yield self._make(first, min(first + ROWS_AT_ONCE, self._number))

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[T]:
        for part in self.parts():
            yield from part

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return list(self)[index]
