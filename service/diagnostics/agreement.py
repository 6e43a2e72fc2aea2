"""Agreement of several people about the same items: Cohen's kappa, Fleiss' kappa and Krippendorff's alpha.

Each measure is 1 for full agreement and 0 for the agreement that chance alone would give. People may rate different
items, so values are missing in general.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from service.diagnostics.bootstrap import Interval, Resampler, group_sums, percentile_interval, random_groups
from service.diagnostics.chunks import Floats, Integers

# A pair of raters, the number of items that both rated, the share of them with the same category, and Cohen's kappa.
Pair = tuple[int, int, int, float, float | None]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings of items; at most one of each rater for an item.

    Args:
        items: (n,) int64, item of each rating, from 0.
        raters: (n,) int64, rater of each rating, from 0.
        categories: (n,) int64, category of each rating, from 0; categories have no order.
    """

    items: Integers
    raters: Integers
    categories: Integers

    @cached_property
    def _compared(self) -> Ratings:
        """The ratings of the items with at least two ratings, with new numbers of items and categories."""
        chosen = np.bincount(self.items)[self.items] > 1 if len(self.items) else np.zeros(0, dtype=bool)
        items = np.unique(self.items[chosen], return_inverse=True)[1]
        categories = np.unique(self.categories[chosen], return_inverse=True)[1]
        return Ratings(items, self.raters[chosen], categories)

    @property
    def num_compared(self) -> int:
        """Number of items with at least two ratings."""
        return _number(self._compared.items)

    def cohen(self, raters: int) -> list[Pair]:
        """Cohen's kappa (1960) of each pair of the raters 0 to `raters` - 1 with common items.

        The kappa is None where both raters use one and the same category only.
        """
        from scipy import sparse

        some = self._compared
        chosen = some.raters < raters
        items, people, categories = some.items[chosen], some.raters[chosen], some.categories[chosen]
        num_items, num_categories, ones = _number(some.items), _number(some.categories), np.ones(len(items))
        cells = np.unique(items * num_categories + categories, return_inverse=True)[1]
        rated = sparse.csr_array((ones, (people, items)), (raters, num_items))
        given = sparse.csr_array((ones, (people, cells)), (raters, _number(cells)))
        common, equal = (rated @ rated.T).toarray(), (given @ given.T).toarray()
        # Row (category, a), column b: how often a gave the category to items that b rated too.
        by_category = sparse.csr_array(
            (ones, (categories * raters + people, items)), (num_categories * raters, num_items)
        )
        by_chance = _by_chance((by_category @ rated.T).tocoo(), raters)
        pairs = np.argwhere(np.triu(common, 1) > 0)
        return [_pair(int(a), int(b), common[a, b], equal[a, b], by_chance[a, b]) for a, b in pairs]

    def fleiss(self) -> float | None:
        """Fleiss' kappa (1971) of the items with at least two ratings; None without them or with one category only.

        Items may have different numbers of ratings (Gwet 2014): each item has the same weight. With equal numbers it is
        the textbook's value.
        """
        counts = self._counts
        if not counts.num_items:
            return None
        agreement = np.mean(counts.agreeing / (counts.per_item * (counts.per_item - 1)))
        shares = np.bincount(counts.categories, counts.numbers / counts.per_item[counts.items]) / counts.num_items
        chance = float((shares**2).sum())
        return None if chance >= 1 else float((agreement - chance) / (1 - chance))

    def krippendorff(self, seed: int = 0) -> tuple[float | None, Interval]:
        """Krippendorff's alpha for nominal data, and its 95 % interval from resampled items.

        None without items with at least two ratings, or with one category only. Resamples with one category only do not
        count.
        """
        from scipy import sparse

        counts = self._counts
        if not counts.num_items:
            return None, (None, None)
        pairs, sizes = counts.agreeing / (counts.per_item - 1), counts.per_item.astype(np.float64)
        totals = np.bincount(counts.categories, counts.numbers)
        value = _alpha(sizes.sum(), pairs.sum(), (totals**2.0).sum())
        groups, num_groups = random_groups(counts.num_items, seed)
        sums = np.hstack([group_sums(groups, num_groups, values) for values in (sizes, pairs)])
        of_groups = sparse.csr_array(
            (counts.numbers.astype(np.float64), (counts.categories, groups[counts.items])), (len(totals), num_groups)
        )
        samples = []
        for weights in Resampler(num_groups, seed).weights():
            resampled = weights @ sums
            squares = ((of_groups @ weights.T) ** 2).sum(axis=0)
            samples.append(_alpha(resampled[:, 0], resampled[:, 1], squares))
        alpha = float(value)
        if not np.isfinite(alpha):
            return None, (None, None)
        return alpha, percentile_interval(np.concatenate(samples))

    @cached_property
    def _counts(self) -> _Counts:
        some = self._compared
        num_categories = _number(some.categories)
        cells, numbers = np.unique(some.items * num_categories + some.categories, return_counts=True)
        items, categories = np.divmod(cells, max(num_categories, 1))
        return _Counts(items, categories, numbers, np.bincount(some.items))


@dataclass(frozen=True, eq=False)
class _Counts:
    """Numbers of ratings by item and category, without zeros.

    Args:
        items: (k,) item of each cell.
        categories: (k,) category of each cell.
        numbers: (k,) number of ratings.
        per_item: (items,) number of ratings, at least 2.
    """

    items: Integers
    categories: Integers
    numbers: Integers
    per_item: Integers

    @property
    def num_items(self) -> int:
        return len(self.per_item)

    @cached_property
    def agreeing(self) -> Floats:
        """(items,) number of ordered pairs of ratings with the same category."""
        return np.bincount(self.items, self.numbers * (self.numbers - 1.0), self.num_items).astype(np.float64)


def _number(codes: Integers) -> int:
    return int(codes.max()) + 1 if len(codes) else 0


def _pair(first: int, second: int, common: float, equal: float, by_chance: float) -> Pair:
    agreement, chance = equal / common, by_chance / common**2
    kappa = None if chance >= 1 else float((agreement - chance) / (1 - chance))
    return first, second, int(common), float(agreement), kappa


def _by_chance(frequencies: Any, raters: int) -> Floats:
    """(raters, raters) sum over the categories of the products of the two raters' frequencies.

    Args:
        frequencies: Sparse matrix with row `category * raters + a` and column b.
        raters: Number of raters.
    """
    category, first = np.divmod(frequencies.row.astype(np.int64), raters)
    second = frequencies.col.astype(np.int64)
    keys = (category * raters + first) * raters + second
    order = np.argsort(keys)
    mirrored = (category * raters + second) * raters + first
    places = np.searchsorted(keys, mirrored, sorter=order).clip(max=max(len(keys) - 1, 0))
    found = order[places] if len(keys) else order
    products = np.where(keys[found] == mirrored, frequencies.data * frequencies.data[found], 0.0)
    return np.bincount(first * raters + second, products, raters**2).reshape(raters, raters).astype(np.float64)


def _alpha(ratings: Any, agreeing: Any, squares: Any) -> Floats:
    """1 - observed / expected disagreement; NaN with one category only.

    Args:
        ratings: Number of ratings.
        agreeing: Sum over the items of the ordered pairs with the same category, divided by the ratings minus 1.
        squares: Sum over the categories of their squared numbers of ratings.
    """
    expected = np.asarray(ratings, dtype=np.float64) ** 2 - squares
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha: Floats = 1 - (ratings - 1) * (ratings - agreeing) / np.where(expected > 0, expected, np.nan)
    return alpha
