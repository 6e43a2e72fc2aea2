"""Regions: connected elements whose prediction differs from their target, found part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.compute.elements import Elements, Part
from service.compute.region_values import (
    RegionColumns,
    WrongElements,
    connected,
    coordinates,
    largest_regions,
    region_columns,
)
from service.errors import TooManyRegionsError
from service.formats.ragged import offsets_of
from service.loss.arrays import Array
from service.loss.row_state import COUNTED
from service.loss.scores import Scores
from service.schema.result import BatchResult
from service.schema.structure import Regions

MAX_REPLY_REGIONS = 2**18


class RegionFinder:
    """Finds the regions of a batch; keeps the wrong elements of an example until all of its parts were added.

    Args:
        elements: The batch.
        most: Largest number of regions of an example; those with the largest sums of losses.
    """

    def __init__(self, elements: Elements, most: int) -> None:
        self._elements = elements
        self._most = most
        self._waiting: list[WrongElements] = []
        self._found: list[RegionColumns] = []
        self._count = 0
        # Few bytes for each element: there may be millions in an example.
        place = np.int32 if math.prod(elements.grid) < 2**31 else np.int64
        num_classes = 2 if elements.sigmoid else elements.num_classes or elements.logits.shape[1]
        of_class = np.int32 if elements.statistics is not None else np.min_scalar_type(num_classes)
        p_t = np.float64 if elements.logits.dtype == np.float64 else np.float32
        self._dtypes = (place, place, of_class, of_class, np.float64, p_t)

    def add(self, part: Part, scores: Scores, given: Array) -> None:
        """Add a part of the batch.

        Args:
            part: A part, in the order of `split`.
            scores: Scores of its elements, with `prediction` and `p_t`.
            given: (n,) class of the target of each element; in sigmoid mode 0 or 1.

        Raises:
            TooManyRegionsError: The batch has more regions than a reply can hold.
        """
        if self._waiting and self._waiting[0].example[0] != part.first:
            self._find()
        prediction = scores.outputs["prediction"]
        positions = ((scores.state == COUNTED) & (prediction != given)).nonzero()[0]
        if len(positions) and self._most:
            columns = (
                *part.owners(self._elements, positions),
                given[positions],
                prediction[positions],
                scores.loss[positions],
                scores.outputs["p_t"][positions],
            )
            narrow = (column.astype(dtype, copy=False) for column, dtype in zip(columns, self._dtypes, strict=True))
            self._waiting.append(WrongElements(*narrow))
        if self._waiting and part.is_whole(self._elements):
            self._find()

    def _find(self) -> None:
        """Find the regions of the waiting elements, which are all wrong ones of their examples."""
        wrong = self._joined()
        region = connected(self._elements, wrong)
        kept, number = largest_regions(region, wrong, self._most)
        self._count += len(kept)
        if self._count > MAX_REPLY_REGIONS:
            raise _too_many()
        # Only the regions that are kept get values.
        place = np.full(int(region.max()) + 1, -1, np.int32)
        place[kept] = np.arange(len(kept))
        region = place[region]
        chosen = region >= 0
        if not chosen.all():
            region, wrong = region[chosen], wrong.at(chosen)
        self._found.append(region_columns(self._elements, region, number, wrong))

    def _joined(self) -> WrongElements:
        """All waiting elements; column by column, so that there are never two copies of all columns."""
        is_split = len(self._waiting) > 1
        parts = list(map(list, zip(*self._waiting, strict=True)))
        self._waiting.clear()
        joined = []
        for column in parts:
            joined.append(np.concatenate(column))
            column.clear()
        wrong = WrongElements(*joined)
        if is_split and self._elements.grid[1] > 1:
            # In parts of an example, the elements of several labels alternate.
            wrong = wrong.at(np.argsort(wrong.position, kind="stable"))
        return wrong

    def regions(self, invalid: Array) -> Regions:
        """All regions, by example, after all parts.

        Args:
            invalid: Numbers of the examples that do not count.
        """
        if self._waiting:
            self._find()
        num_axes = len(coordinates(self._elements, np.empty(0, np.int64)))
        none = [
            np.empty((0, num_axes) if name in ("start", "stop") else 0, float if name in ("loss_sum", "p_t") else int)
            for name in RegionColumns._fields
        ]
        found = RegionColumns(*map(np.concatenate, zip(none, *self._found, strict=True)))
        if len(invalid):
            valid = ~np.isin(found.example, invalid)
            found = RegionColumns(*(column[valid] for column in found))
        counts = np.bincount(found.example, minlength=self._elements.num_examples)
        return Regions(offsets_of(counts), *found[1:])


def may_be_too_many(elements: Elements, most: int) -> bool:
    """True if a batch can have more regions than a reply can hold, with up to `most` of each example."""
    return min(elements.num_examples * most, math.prod(elements.grid)) > MAX_REPLY_REGIONS


def check_regions(results: Sequence[BatchResult]) -> None:
    """Check the number of regions of a reply.

    Raises:
        TooManyRegionsError: All batches together have more regions than a reply can hold.
    """
    if sum(len(result.regions.number) for result in results if result.regions is not None) > MAX_REPLY_REGIONS:
        raise _too_many()


def _too_many() -> TooManyRegionsError:
    return TooManyRegionsError(
        f"the reply would have more than {MAX_REPLY_REGIONS} regions; ask for fewer of each example (top_regions)"
    )
