"""Counts of pairs of classes as a sparse matrix: memory grows with the rows of a data set, not with the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Floats, Integers
from service.diagnostics.pair_sums import PairSums

# Part of a matrix that is made dense to sum it.
SUMMED_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class PairCounts:
    """A (C, C) matrix of counts without its zeros.

    Args:
        num_classes: C.
        first: (n,) int64, row of each entry, ascending.
        second: (n,) int64, column of each entry, ascending within a row.
        counts: (n,) int64, the entries.
    """

    num_classes: int
    first: Integers
    second: Integers
    counts: Integers

    @classmethod
    def of(cls, num_classes: int, first: Integers, second: Integers, counts: Integers) -> PairCounts:
        """The sums of the counts of equal pairs, which may come in any order."""
        keys, places = np.unique(first * num_classes + second, return_inverse=True)
        return cls(num_classes, keys // num_classes, keys % num_classes, _sums(places, counts, len(keys)))

    @classmethod
    def from_matrix(cls, matrix: Integers) -> PairCounts:
        """The entries of a (C, C) matrix that are not 0."""
        first, second = np.nonzero(matrix)
        return cls(len(matrix), first, second, matrix[first, second])

    def with_diagonal(self) -> PairCounts:
        """The same with a diagonal of 1 or more."""
        missing = np.flatnonzero(self.diagonal() == 0)
        columns = (self.first, missing), (self.second, missing), (self.counts, np.ones_like(missing))
        return PairCounts.of(self.num_classes, *map(np.concatenate, columns))

    def by_first(self) -> Integers:
        """(C,) int64, sum of each row."""
        return _sums(self.first, self.counts, self.num_classes)

    def by_second(self) -> Integers:
        """(C,) int64, sum of each column."""
        return _sums(self.second, self.counts, self.num_classes)

    def diagonal(self) -> Integers:
        """(C,) int64, the entries of the diagonal."""
        same = self.first == self.second
        return _sums(self.first[same], self.counts[same], self.num_classes)

    def largest_off_diagonal(self) -> Integers:
        """(C,) int64, column of the first largest positive entry of each row off the diagonal; -1 without one."""
        chosen = np.flatnonzero((self.first != self.second) & (self.counts > 0))
        order = chosen[np.lexsort((self.second[chosen], -self.counts[chosen], self.first[chosen]))]
        rows, starts = np.unique(self.first[order], return_index=True)
        largest: Integers = np.full(self.num_classes, -1, np.int64)
        largest[rows] = self.second[order][starts]
        return largest

    def largest_pairs(self, limit: int | None = None) -> PairCounts:
        """Sums of the entries [a, b] and [b, a] for a < b: those above 0, the largest first, then by a and b."""
        apart = self.first != self.second
        first, second = self.first[apart], self.second[apart]
        pairs = PairCounts.of(
            self.num_classes, np.minimum(first, second), np.maximum(first, second), self.counts[apart]
        )
        order = np.argsort(-pairs.counts, kind="stable")
        order = order[pairs.counts[order] > 0][:limit]
        return PairCounts(self.num_classes, pairs.first[order], pairs.second[order], pairs.counts[order])


class PairCounter:
    """Counts pairs of classes that arrive in chunks."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._sums = PairSums(num_classes, 1)

    def add(self, first: Integers, second: Integers) -> None:
        """Count the pairs (first[i], second[i])."""
        self._sums.add(first, second, np.ones((1, len(first))))

    def total(self) -> PairCounts:
        """The counts so far."""
        first, second, (counts,) = self._sums.total()
        return PairCounts(self._num_classes, first, second, counts.astype(np.int64))


def calibrate(joint: PairCounts, counts: Integers) -> PairCounts:
    """Scale each row of `joint` to sum to the count of its class, and round it to integers with the same sum.

    Missing units go to the classes with the largest remainders, the last class first among equal remainders. Excess
    units are taken from the classes with the smallest remainders, the first class first among equal remainders. A class
    with the count 0 gets no entries.
    """
    kept = counts[joint.first] > 0
    first, second = joint.first[kept], joint.second[kept]
    # The second step corrects rounding errors only. It is copied from cleanlab with the order of its sum: the last bit
    # decides the direction in which a half is rounded.
    scaled = joint.counts[kept] / joint.by_first()[first] * counts[first]
    scaled = scaled / _dense_sum(scaled, first, second, joint.num_classes) * counts.sum()
    rounded: Integers = np.rint(scaled).astype(np.int64)
    missing = counts - _sums(first, rounded, joint.num_classes)
    rows = np.flatnonzero(missing)
    for row, start, end in zip(rows, np.searchsorted(first, rows), np.searchsorted(first, rows, "right"), strict=True):
        order = start + np.argsort(scaled[start:end] - rounded[start:end], kind="stable")
        order = order[::-1] if missing[row] > 0 else order
        rounded[order[: abs(missing[row])]] += np.sign(missing[row])
    return PairCounts(joint.num_classes, first, second, rounded)


def _sums(groups: Integers, counts: Integers, size: int) -> Integers:
    sums: Integers = np.zeros(size, np.int64)
    np.add.at(sums, groups, counts)
    return sums


def _dense_sum(values: Floats, first: Integers, second: Integers, num_classes: int) -> float:
    """The sum of a sparse matrix with the bits of numpy's sum of the dense one in Fortran order."""
    positions = second * num_classes + first
    order = np.argsort(positions)
    return _pairwise_sum(values[order], positions[order], num_classes**2)


def _pairwise_sum(values: Floats, positions: Integers, size: int) -> float:
    """numpy's pairwise sum of an array of `size` numbers that are 0 except at ascending positions."""
    if not len(values):
        return 0.0
    if size <= SUMMED_AT_ONCE:
        dense = np.zeros(size)
        dense[positions] = values
        return float(dense.sum())
    half = size // 2 - size // 2 % 8
    middle = np.searchsorted(positions, half)
    return _pairwise_sum(values[:middle], positions[:middle], half) + _pairwise_sum(
        values[middle:], positions[middle:] - half, size - half
    )
