"""Regions: connected elements whose prediction differs from their target, found part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.compute.elements import Elements, Part
from service.compute.region_values import RegionColumns, WrongElements, connected, coordinates, region_columns
from service.errors import TooManyRegionsError
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
            example, position = part.owners(self._elements, positions)
            values = prediction[positions], scores.loss[positions], scores.outputs["p_t"][positions]
            self._waiting.append(WrongElements(example, position, given[positions].astype(np.int64), *values))
        if self._waiting and part.is_whole(self._elements):
            self._find()

    def _find(self) -> None:
        """Find the regions of the waiting elements, which are all wrong ones of their examples."""
        wrong = WrongElements(*map(np.concatenate, zip(*self._waiting, strict=True)))
        if len(self._waiting) > 1:
            # In parts of an example, the elements of several labels alternate.
            order = np.argsort(wrong.position, kind="stable")
            wrong = WrongElements(*(column[order] for column in wrong))
        self._waiting.clear()
        region = connected(self._elements, wrong)
        self._count_regions(region, wrong.example)
        axes = coordinates(self._elements, wrong.position)
        found = region_columns(region, wrong, axes)
        order = np.lexsort((found.number, -found.loss_sum, found.example))
        first = np.searchsorted(found.example, found.example)
        kept = order[np.arange(len(order)) - first < self._most]
        self._found.append(RegionColumns(*(column[kept] for column in found)))

    def _count_regions(self, region: Array, example: Array) -> None:
        """Count the regions that are kept, before their values take memory.

        Args:
            region: (P,) number of the region of each wrong element.
            example: (P,) number of its example.
        """
        example_of = np.empty(int(region.max()) + 1, np.int64)
        example_of[region] = example - example[0]
        self._count += int(np.minimum(np.bincount(example_of), self._most).sum())
        if self._count > MAX_REPLY_REGIONS:
            raise _too_many()

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
        return Regions(np.concatenate(([0], np.cumsum(counts))), *found[1:])


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
