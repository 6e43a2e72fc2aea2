"""The largest values of many groups, found exactly in several passes over the values and in constant memory.

A pass counts the values of each group in bins, and the next one looks into the bin with the cutoff only. Once such bins
have few values, the last pass collects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.loss.kernels.cpu_compile import compiled

_njit: Any = njit

ALL = -1
"""As the number of wanted values of a group: all of them."""

# Values are in [-1, 1], and a bin is a range of keys. A key is the bits of a value's magnitude, less those of 2^-128,
# with the value's sign: so there are as many bins between 2^-10 and 2^-9 as between 1/2 and 1.
_TINY = 2.0**-128
_TINY_BITS = int(np.float64(_TINY).view(np.int64))
_MAX_KEY = int(np.float64(1).view(np.int64)) - _TINY_BITS
_MAX_BINS, _MAX_BITS = 2**20, 12
_MAX_COLLECTED, _MIN_COLLECTED = 2**18, 4


@dataclass(frozen=True, eq=False)
class Cutoffs:
    """The values that are taken of each of G groups.

    Args:
        values: (G,) float64; larger values are taken, smaller ones are not. -inf: all are taken, inf: none.
        ties: (G,) int64, how many of the values that equal the cutoff are taken, those that come first.
    """

    values: Floats
    ties: Integers


class CutoffSearch:
    """Search for the cutoffs of the largest values of each of G groups.

    Call `narrow` after each pass over the values, which must be the same in each pass, in any order.

    Args:
        num_groups: G.
        least: In [-1, 1], about the smallest value that the first pass needs. A cutoff below it costs a further pass.
    """

    def __init__(self, num_groups: int, least: float = -1.0) -> None:
        self._cutoffs: Floats = np.full(num_groups, np.nan)
        self._ties: Integers = np.zeros(num_groups, np.int64)
        # The cutoff of a group has a key in [start, stop), and `above` values have larger keys.
        self._start: Integers = np.full(num_groups, _key(float(least)))
        self._stop: Integers = np.full(num_groups, _MAX_KEY + 1)
        self.least: Floats = _least_values(self._start)
        """(G,) float64, smallest value that the next pass needs, inf for a group whose cutoff is known."""
        self._above: Integers = np.zeros(num_groups, np.int64)
        self._collects: Booleans = np.zeros(num_groups, np.bool_)
        self._begin_pass()

    @property
    def finished(self) -> bool:
        """True once every cutoff is known."""
        return not np.isnan(self._cutoffs).any()

    @property
    def cutoffs(self) -> Cutoffs:
        """The result of a finished search."""
        return Cutoffs(self._cutoffs, self._ties)

    @property
    def counts(self) -> Integers:
        """(G,) int64, number of values of the first pass, before `narrow` ends it."""
        counts: Integers = self._counts.reshape(len(self.least), -1).sum(axis=1)
        return counts

    def add(self, groups: Integers, values: Floats) -> None:
        """Take note of values of this pass: `groups` (n,) in [0, G), `values` (n,) in [-1, 1]."""
        if not len(groups):
            return
        collected: Booleans = np.zeros(len(groups), np.bool_)
        _count(groups, values, self._start, self._stop, self._shift, self._places, self._bits, self._counts, collected)
        if self._collects.any():
            self._collected.add(groups[collected], values[collected])

    def narrow(self, wanted: Integers) -> None:
        """End a pass.

        Args:
            wanted: (G,) int64, how many values of each group are taken, or `ALL`; the same after each pass.
        """
        unknown = np.isnan(self._cutoffs)
        self._finish(np.flatnonzero(unknown & (wanted == 0)), np.inf)
        self._finish(np.flatnonzero(unknown & (wanted == ALL)), -np.inf)
        counted = np.flatnonzero((self._places >= 0) & np.isnan(self._cutoffs))
        collected = np.flatnonzero(self._collects)
        self._cutoffs[collected], self._ties[collected] = self._collected.ranked(collected, wanted - self._above)
        self._finish(collected, self._cutoffs[collected])
        if len(counted):
            self._choose_bins(counted, wanted[counted])
        self._begin_pass()

    def _begin_pass(self) -> None:
        """Give bins to each group that is not finished and does not collect."""
        counted = np.flatnonzero(np.isnan(self._cutoffs) & ~self._collects)
        self._bits = min(max((_MAX_BINS // max(len(counted), 1)).bit_length() - 1, 1), _MAX_BITS)
        self._places: Integers = np.full(len(self.least), -1)
        self._places[counted] = np.arange(len(counted))
        self._counts: Integers = np.zeros(len(counted) << self._bits, np.int64)
        width = np.frexp(self._stop - self._start - 1)[1].astype(np.int64)
        self._shift: Integers = np.maximum(width - self._bits, 0)
        self._collected = _Collected()

    def _choose_bins(self, groups: Integers, wanted: Integers) -> None:
        """Continue in the bin with the cutoff of each of these groups."""
        counts = self._counts.reshape(-1, 1 << self._bits)[self._places[groups]]
        # For each bin, the values in it and in those after it.
        at_least = self._above[groups, None] + counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        bins = np.count_nonzero(at_least >= wanted[:, None], axis=1) - 1
        self._look_below(groups[bins < 0], at_least[bins < 0, 0])

        rows = np.flatnonzero(bins >= 0)
        groups, bins = groups[rows], bins[rows]
        numbers = counts[rows, bins]
        self._above[groups] = at_least[rows, bins] - numbers
        self._start[groups] += bins << self._shift[groups]
        self._stop[groups] = np.minimum(self._start[groups] + (1 << self._shift[groups]), self._stop[groups])
        self.least[groups] = _least_values(self._start[groups])
        most = max(_MAX_COLLECTED // max(len(groups), 1), _MIN_COLLECTED)
        self._collects[groups] = (numbers <= most) | (self._stop[groups] - self._start[groups] == 1)

    def _look_below(self, groups: Integers, above: Integers) -> None:
        """Search below the smallest value of the first pass; groups without values there have too few."""
        complete = self._start[groups] == -_MAX_KEY
        self._finish(groups[complete], -np.inf)
        groups, above = groups[~complete], above[~complete]
        self._stop[groups], self._above[groups] = self._start[groups], above
        self._start[groups], self.least[groups] = -_MAX_KEY, -1.0

    def _finish(self, groups: Integers, cutoffs: Floats | float) -> None:
        self._cutoffs[groups], self.least[groups], self._collects[groups] = cutoffs, np.inf, False
        self._stop[groups] = self._start[groups]


class _Collected:
    """Values of groups; equal ones are counted, so that memory grows with the different ones only."""

    def __init__(self) -> None:
        self._parts: list[tuple[Integers, Floats, Integers]] = []
        self._num_waiting = 0

    def add(self, groups: Integers, values: Floats) -> None:
        self._parts.append((groups, values, np.ones_like(groups)))
        self._num_waiting += 1 + len(groups)
        # Sorting many values again for few new ones each time would take quadratic time in all.
        if self._num_waiting > len(self._parts[0][0]):
            self._parts, self._num_waiting = [self._total()], 0

    def _total(self) -> tuple[Integers, Floats, Integers]:
        """Groups and values in ascending order of the group and descending order of the value, and their counts."""
        groups, values, counts = map(np.concatenate, zip(*self._parts, strict=True))
        order = np.lexsort((-values, groups))
        groups, values, counts = groups[order], values[order], counts[order]
        changes = (groups[1:] != groups[:-1]) | (values[1:] != values[:-1])
        first = np.flatnonzero(np.append(True, changes)[: len(groups)])
        return groups[first], values[first], np.add.reduceat(counts, first) if len(first) else counts

    def ranked(self, groups: Integers, ranks: Integers) -> tuple[Floats, Integers]:
        """For each of `groups`, the value of rank ranks[group] >= 1 and the rank among the values that equal it."""
        if not len(groups):
            return np.zeros(0), np.zeros(0, np.int64)
        present, values, counts = self._total()
        before = np.append(0, counts.cumsum())
        ranks = before[np.searchsorted(present, groups)] + ranks[groups]
        places = np.searchsorted(before, ranks) - 1
        return values[places], ranks - before[places]


class Taker:
    """Marks the values that cutoffs take; the values come in the order of the data set.

    Args:
        cutoffs: The cutoffs of G groups.
    """

    def __init__(self, cutoffs: Cutoffs) -> None:
        self._values = cutoffs.values
        self._left = cutoffs.ties.copy()

    def take(self, groups: Integers, values: Floats) -> Booleans:
        """(n,) bool, the values that are taken: `groups` (n,) in [0, G), `values` (n,)."""
        taken: Booleans = values > self._values[groups]
        equal = np.flatnonzero(values == self._values[groups])
        equal = equal[np.argsort(groups[equal], kind="stable")]
        tied = groups[equal]
        accepted = equal[np.arange(len(tied)) - np.searchsorted(tied, tied) < self._left[tied]]
        taken[accepted] = True
        np.subtract.at(self._left, groups[accepted], 1)
        return taken


@_njit
def _key(value: float) -> Any:
    magnitude: Any = max(np.float64(abs(value)).view(np.int64) - _TINY_BITS, 0)
    return magnitude if value >= 0 else -magnitude


@compiled()
def _count(
    groups: Any,
    values: Any,
    start: Any,
    stop: Any,
    shift: Any,
    places: Any,
    bits: int,
    counts: Any,
    collected: Any,
) -> None:
    """Count the values of groups that have a row of bins, and mark those of groups that collect."""
    for i in range(len(groups)):
        group = groups[i]
        key = _key(values[i])
        if start[group] <= key < stop[group]:
            if places[group] >= 0:
                counts[(places[group] << bits) + ((key - start[group]) >> shift[group])] += 1
            else:
                collected[i] = True


def _least_values(keys: Integers) -> Floats:
    """Smallest values with these keys."""
    magnitudes = (np.abs(keys) + _TINY_BITS).view(np.float64)
    return np.where(keys > 0, magnitudes, -magnitudes)
