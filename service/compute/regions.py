"""Regions: connected elements whose prediction differs from their target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.compute.elements import Elements, Part
from service.errors import TooManyRegionsError
from service.loss.arrays import Array
from service.loss.row_state import COUNTED
from service.loss.scores import Scores
from service.schema.result import BatchResult
from service.schema.structure import Regions

MAX_REGIONS = 2**20


class _Region(NamedTuple):
    """Columns of regions, ordered by example."""

    example: Array
    number: Array
    given: Array
    suggested: Array
    num_elements: Array
    start: Array
    stop: Array
    loss_sum: Array
    p_t: Array


class RegionFinder:
    """Finds the regions of a batch, part by part.

    Args:
        elements: The batch.
        most: Largest number of regions of an example; those with the largest sums of losses.
    """

    def __init__(self, elements: Elements, most: int) -> None:
        self._elements = elements
        self._most = most
        self._parts: list[_Region] = []
        self._count = 0

    def add(self, part: Part, scores: Scores, given: Array, invalid: Array) -> None:
        """Find the regions of whole examples.

        Args:
            part: These examples.
            scores: Scores of their elements, with `prediction` and `p_t`.
            given: (n,) class of the target of each element; in sigmoid mode 0 or 1.
            invalid: Numbers of the examples that do not count.

        Raises:
            TooManyRegionsError: The batch has more regions than a reply can hold.
        """
        prediction = scores.outputs["prediction"]
        differs = (scores.state == COUNTED) & (prediction != given)
        positions = differs.nonzero()[0]
        example, position = part.owners(self._elements, positions)
        if len(invalid):
            valid = ~np.isin(example, invalid)
            differs[positions[~valid]] = False
            positions, example, position = positions[valid], example[valid], position[valid]
        if not len(positions) or not self._most:
            return
        region = self._connected(part, differs, positions, example, position)
        values = given[positions], prediction[positions], scores.loss[positions], scores.outputs["p_t"][positions]
        found = _regions(region, example, self._coordinates(position), *values)
        order = np.lexsort((found.number, -found.loss_sum, found.example))
        first = np.searchsorted(found.example, found.example)
        kept = order[np.arange(len(order)) - first < self._most]
        self._parts.append(_Region(*(column[kept] for column in found)))
        self._count += len(kept)
        if self._count > MAX_REGIONS:
            raise _too_many()

    def regions(self) -> Regions:
        """All regions found, by example."""
        num_axes = self._coordinates(np.empty(0, np.int64)).shape[1]
        none = [
            np.empty((0, num_axes) if name in ("start", "stop") else 0, float if name in ("loss_sum", "p_t") else int)
            for name in _Region._fields
        ]
        found = _Region(*map(np.concatenate, zip(none, *self._parts, strict=True)))
        counts = np.bincount(found.example, minlength=self._elements.num_examples)
        return Regions(np.concatenate(([0], np.cumsum(counts))), *found[1:])

    def _connected(self, part: Part, differs: Array, positions: Array, example: Array, position: Array) -> Array:
        """Number of the region of each position, in any order."""
        if self._elements.layout == "rows":
            return np.arange(len(positions))
        if self._elements.layout == "ragged":
            token, label = np.divmod(position, self._elements.per_row)
            order = np.lexsort((token, label, example))
            steps = [np.diff(column[order], prepend=-2) for column in (example, label, token)]
            region = np.empty(len(order), np.int64)
            region[order] = np.cumsum((steps[0] != 0) | (steps[1] != 0) | (steps[2] != 1))
            return region
        # Needed here only, and slow to import.
        from scipy import ndimage

        labels, axes = self._elements.grid[1], self._elements.axes
        places = axes[1:] if labels > 1 else axes
        structure = np.zeros((3,) * (2 + len(places)), bool)
        structure[1, 1] = ndimage.generate_binary_structure(len(places), 1)
        numbers, _ = ndimage.label(differs.reshape(part.segments.count, labels, *places), structure)
        return np.asarray(numbers).reshape(-1)[positions]

    def _coordinates(self, position: Array) -> Array:
        """(P, R) int64, index of elements along the axes of their example's targets."""
        axes = self._elements.axes
        inner = np.unravel_index(position % max(1, self._elements.per_row), axes) if axes else ()
        outer = [position // self._elements.per_row] if self._elements.layout == "ragged" or not axes else []
        return np.stack([*outer, *inner], axis=1)


def _regions(
    region: Array, example: Array, coordinates: Array, given: Array, suggested: Array, loss: Array, p_t: Array
) -> _Region:
    """Reduce elements, in the order of their positions, to their regions, ordered by their first elements."""
    _, first, inverse = np.unique(region, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    region = rank[inverse]
    order = np.argsort(region, kind="stable")
    counts = np.bincount(region)
    starts = np.cumsum(counts) - counts
    example = example[order[starts]]
    given, suggested = _main_pairs(region, given.astype(np.int64), suggested, loss)
    return _Region(
        example=example,
        number=np.arange(len(example)) - np.searchsorted(example, example),
        given=given,
        suggested=suggested,
        num_elements=counts,
        start=np.minimum.reduceat(coordinates[order], starts),
        stop=np.maximum.reduceat(coordinates[order], starts) + 1,
        loss_sum=np.add.reduceat(loss[order], starts),
        p_t=np.add.reduceat(p_t[order], starts) / counts,
    )


def _main_pairs(region: Array, given: Array, suggested: Array, loss: Array) -> tuple[Array, Array]:
    """The pair of target and prediction of each region with the largest sum of losses; of equal ones the smallest."""
    order = np.lexsort((suggested, given, region))
    columns = [column[order] for column in (region, given, suggested)]
    starts = np.flatnonzero(np.logical_or.reduce([np.diff(column, prepend=-1) != 0 for column in columns]))
    sums = np.add.reduceat(loss[order], starts)
    region, given, suggested = (column[starts] for column in columns)
    largest = np.lexsort((-sums, region))
    _, first = np.unique(region, return_index=True)
    return given[largest[first]], suggested[largest[first]]


def check_regions(results: Sequence[BatchResult]) -> None:
    """Check the number of regions of a reply.

    Raises:
        TooManyRegionsError: All batches together have more regions than a reply can hold.
    """
    if sum(len(result.regions.number) for result in results if result.regions is not None) > MAX_REGIONS:
        raise _too_many()


def _too_many() -> TooManyRegionsError:
    return TooManyRegionsError(
        f"the reply would have more than {MAX_REGIONS} regions; ask for fewer of each example (top_regions)"
    )
