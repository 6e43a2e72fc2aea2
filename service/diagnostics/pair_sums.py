"""Sums of several values by pair of classes: memory grows with the pairs that occur, not with the classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from service.diagnostics.chunks import Floats, Integers


class PairTable(NamedTuple):
    """Pairs in ascending order, and their sums.

    Args:
        first: (n,) int64.
        second: (n,) int64.
        sums: (k, n) float64; counts are exact up to 2^53.
    """

    first: Integers
    second: Integers
    sums: Floats


class PairSums:
    """Adds up k values of pairs that arrive in chunks.

    Args:
        num_second: Number of different second members.
        num_values: k.
    """

    def __init__(self, num_second: int, num_values: int) -> None:
        self._num_second = num_second
        self._keys: Integers = np.zeros(0, np.int64)
        self._sums: Floats = np.zeros((num_values, 0))
        self._waiting: list[tuple[Integers, Floats]] = []
        self._num_waiting = 0

    def add(self, first: Integers, second: Integers, values: Floats) -> None:
        """Add the values (k, n) of the pairs (first[i], second[i])."""
        keys, sums = _by_key(first.astype(np.int64) * self._num_second + second, values)
        self._waiting.append((keys, sums))
        self._num_waiting += 1 + len(keys)
        # Adding few pairs to many each time would take quadratic time in all.
        if self._num_waiting > len(self._keys):
            self._merge()

    def total(self) -> PairTable:
        """The sums so far."""
        self._merge()
        return PairTable(self._keys // self._num_second, self._keys % self._num_second, self._sums)

    def _merge(self) -> None:
        keys, sums = zip((self._keys, self._sums), *self._waiting, strict=True)
        self._keys, self._sums = _by_key(np.concatenate(keys), np.concatenate(sums, axis=1))
        self._waiting, self._num_waiting = [], 0


def _by_key(keys: Integers, values: Floats) -> tuple[Integers, Floats]:
    different, places = np.unique(keys, return_inverse=True)
    sums = [np.bincount(places, row, len(different)) for row in values]
    return different, np.stack(sums)
