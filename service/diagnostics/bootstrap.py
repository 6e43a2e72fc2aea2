"""The bootstrap: resampled sums over the rows of a data set, in bounded memory.

Efron & Tibshirani 1993. Up to `GROUPS` rows are resampled one by one. Of more rows each random group counts as one row:
the groups have the variance of the rows, so the intervals are the same up to the chance of the resampling.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from service.diagnostics.chunks import Floats, Integers

RESAMPLES = 2000
GROUPS = 2000
RESAMPLES_AT_ONCE = 50
LEVELS = (2.5, 97.5)  # percent; the ends of a 95 % interval
Interval = tuple[float | None, float | None]


def random_groups(num_rows: int, seed: int = 0) -> tuple[Integers, int]:
    """Group of each row, and the number of groups: each row its own up to `GROUPS` rows, else random groups."""
    if num_rows <= GROUPS:
        return np.arange(num_rows), num_rows
    return np.random.default_rng(seed).permutation(num_rows) % GROUPS, GROUPS


def group_sums(
    groups: Integers, num_groups: int, values: Floats | None = None, bins: Integers | None = None, num_bins: int = 1
) -> Floats:
    """Sum values by group and bin.

    Args:
        groups: (n,) group of each row, in [0, num_groups).
        num_groups: Number of groups.
        values: (n,) values of the rows; None for 1, which counts the rows.
        bins: (n,) bin of each row in [0, num_bins); None for bin 0.
        num_bins: Number of bins.

    Returns:
        (num_groups, num_bins) float64.
    """
    cells = groups * num_bins + (0 if bins is None else bins)
    sums = np.bincount(cells, values, minlength=num_groups * num_bins)
    return sums.reshape(num_groups, num_bins).astype(np.float64)


class Resampler:
    """Resamples of the groups of a data set; equal numbers of groups and seeds give equal resamples.

    Args:
        num_groups: Number of groups.
        seed: Seed of the resamples.
    """

    def __init__(self, num_groups: int, seed: int = 0) -> None:
        self.num_groups = num_groups
        self._seed = seed

    def weights(self) -> Iterator[Floats]:
        """The number of times that each resample has each group: `RESAMPLES` rows of (groups,), some at once."""
        generator, size = np.random.default_rng([self._seed, 1]), self.num_groups
        offsets = np.arange(RESAMPLES_AT_ONCE)[:, None] * size
        for _ in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
            drawn = generator.integers(0, max(size, 1), (RESAMPLES_AT_ONCE, size)) + offsets
            counts = np.bincount(drawn.ravel(), minlength=RESAMPLES_AT_ONCE * size)
            yield counts.reshape(RESAMPLES_AT_ONCE, size).astype(np.float64)

    def resampled(self, sums: Floats) -> Floats:
        """The sums of each resample: (groups, k) gives (RESAMPLES, k)."""
        return np.concatenate([weights @ sums for weights in self.weights()])


def percentile_interval(samples: Floats) -> Interval:
    """The 95 % interval between percentiles of a statistic of the resamples; (None, None) if none of them is finite."""
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return None, None
    low, high = np.percentile(finite, LEVELS).tolist()
    return low, high


def basic_interval(samples: Floats, value: float, smallest: float = 0.0, largest: float = 1.0) -> Interval:
    """The 95 % basic (reverse percentile) interval, for a statistic that resampling moves away from its value.

    Args:
        samples: (RESAMPLES,) statistic of the resamples.
        value: The statistic of the data.
        smallest: Smallest possible value.
        largest: Largest possible value.
    """
    low, high = percentile_interval(samples)
    if low is None or high is None:
        return None, None
    return max(smallest, 2 * value - high), min(largest, 2 * value - low)
