"""Chunks of a data set that is larger than memory, and sums that do not depend on the chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a data set.

    Args:
        targets: (n,) int64 class indices in [0, C).
        logits: (n, C) float32 or float64; finite, or -inf in a masked class, which is never the target.

    Raises:
        ValueError: The number of rows differs between targets and logits, or a target is not in [0, C).
    """

    targets: Integers
    logits: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or len(self.logits) != len(self.targets):
            raise ValueError(
                f"{len(self.targets)} targets need as many rows of logits, not the shape {self.logits.shape}"
            )
        num_classes = self.logits.shape[1]
        if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < num_classes:
            raise ValueError(f"targets must lie in [0, {num_classes})")


Chunks = Callable[[], Iterable[Chunk]]
"""Each call starts another pass over the same rows."""


def softmax(logits: NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of each row, independent of the other rows.

    Args:
        logits: (n, C) of any floating dtype, C >= 1; -inf gives the probability 0.

    Returns:
        (n, C) float64; the bits of a row depend on neither the size nor the memory layout of the chunk.
    """
    # A C-contiguous copy: numpy adds up a strided row in another order.
    p = np.array(logits, dtype=np.float64, order="C")
    p -= p.max(axis=1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def log_softmax(logits: NDArray[np.floating[Any]]) -> Floats:
    """Log-probabilities of each row, independent of the other rows; exact where probabilities underflow.

    Args:
        logits: (n, C) of any floating dtype, C >= 1; -inf stays -inf.

    Returns:
        (n, C) float64.
    """
    x = np.array(logits, dtype=np.float64, order="C")
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


class ProbabilitySums:
    """Sums of probabilities by group, independent of the order of the rows and of their chunks.

    A probability is rounded to a multiple of 2^-52 and added as an integer, in two halves of 26 bits: float64 sums
    are exact up to 2^27 rows in a chunk, int64 sums up to 2^37 rows in total.
    """

    def __init__(self, groups: int) -> None:
        self.counts: Integers = np.zeros(groups, dtype=np.int64)
        self._high: Integers = np.zeros(groups, dtype=np.int64)
        self._low: Integers = np.zeros(groups, dtype=np.int64)

    def add(self, groups: Integers, probabilities: Floats) -> None:
        """Add rows: `groups` (n,) in [0, number of groups), `probabilities` (n,) in [0, 1]."""
        size = len(self.counts)
        high, low = _halves(probabilities)
        self.counts += np.bincount(groups, minlength=size)
        self._high += np.bincount(groups, high, size).astype(np.int64)
        self._low += np.bincount(groups, low, size).astype(np.int64)

    def add_rows(self, probabilities: Floats) -> None:
        """Add rows that have a probability for each group: (n, groups) in [0, 1]."""
        high, low = (half.sum(axis=0).astype(np.int64) for half in _halves(probabilities))
        self.add_sums(np.stack([np.full_like(high, len(probabilities)), high, low]))

    def add_sums(self, sums: Integers) -> None:
        """Add rows that are summed already: (3, groups) int64, their number, and the sums of the two halves."""
        self.counts += sums[0]
        self._high += sums[1]
        self._low += sums[2]

    def means(self, empty: float) -> Floats:
        """(groups,) float64, the mean of each group, `empty` for a group without rows."""
        sums = zip(self._high.tolist(), self._low.tolist(), self.counts.tolist(), strict=True)
        # Python divides integers of any size with one rounding.
        return np.array([((high << 26) + low) / (n << 52) if n else empty for high, low, n in sums])


def _halves(probabilities: Floats) -> tuple[Floats, Floats]:
    """Integers up to 2^26, in units of 2^-26 and of 2^-52."""
    scaled = probabilities * 2.0**26
    high = np.floor(scaled)
    return high, np.rint((scaled - high) * 2.0**26)
