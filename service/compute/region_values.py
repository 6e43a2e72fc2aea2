"""Regions of wrong elements: which of them are connected, and the values of each region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from service.compute.elements import Elements
from service.loss.arrays import Array


class WrongElements(NamedTuple):
    """Elements whose prediction differs from their target; all (P,), ordered by example and position.

    Args:
        example: Number of the example.
        position: Position in the example.
        given: int64, class of the target; in sigmoid mode 0 or 1.
        suggested: int64, prediction.
        loss: float64.
        p_t: float64.
    """

    example: Array
    position: Array
    given: Array
    suggested: Array
    loss: Array
    p_t: Array


class RegionColumns(NamedTuple):
    """Columns of K regions, ordered by example; see `Regions`, which has these and the number of each example's."""

    example: Array
    number: Array
    given: Array
    suggested: Array
    num_elements: Array
    start: Array
    stop: Array
    loss_sum: Array
    p_t: Array


def connected(elements: Elements, wrong: WrongElements) -> Array:
    """The region of each wrong element of some examples: (P,) numbers from 0, of each at least one element."""
    if elements.layout == "rows":
        return np.arange(len(wrong.example))
    first = int(wrong.example[0])
    if elements.layout == "ragged":
        token, label = np.divmod(wrong.position, elements.per_row)
        order = np.lexsort((token, label, wrong.example))
        begins = np.diff(token[order], prepend=-2) != 1
        for column in (wrong.example, label):
            begins |= np.diff(column[order], prepend=-1) != 0
        region = np.empty(len(order), np.int64)
        region[order] = np.cumsum(begins) - 1
        return region
    # Needed here only, and slow to import.
    from scipy import ndimage

    labels, axes = elements.grid[1], elements.axes
    places = axes[1:] if labels > 1 else axes
    structure = np.zeros((3,) * (2 + len(places)), bool)
    structure[1, 1] = ndimage.generate_binary_structure(len(places), 1)
    count = int(wrong.example[-1]) - first + 1
    is_wrong = np.zeros(count * elements.per_row, bool)
    flat = (wrong.example - first) * elements.per_row + wrong.position
    is_wrong[flat] = True
    numbers: Array = ndimage.label(is_wrong.reshape(count, labels, *places), structure)[0]
    of_wrong: Array = numbers.reshape(-1)[flat] - 1
    return of_wrong


def coordinates(elements: Elements, position: Array) -> list[Array]:
    """The index of elements along each axis of their example's targets, at least one axis; int64, each (P,)."""
    axes = elements.axes
    inner = np.unravel_index(position % max(1, elements.per_row), axes) if axes else ()
    outer = [position // elements.per_row] if elements.layout == "ragged" or not axes else []
    return [*outer, *inner]


def region_columns(region: Array, wrong: WrongElements, axes: list[Array]) -> RegionColumns:
    """Reduce wrong elements to their regions, which are ordered by their first elements.

    Args:
        region: (P,), see `connected`.
        wrong: The elements.
        axes: Their indices, see `coordinates`; boxes have their dtype.
    """
    count = int(region.max()) + 1
    first = np.empty(count, np.int64)
    # Of elements of the same region the last one assigned stays, which is the first in order.
    first[region[::-1]] = np.arange(len(region) - 1, -1, -1)
    order = np.argsort(first, kind="stable")
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count, dtype=np.int32)
    region, example = rank[region], wrong.example[first[order]]
    num_elements = np.bincount(region)
    start, stop = np.empty((count, len(axes)), axes[0].dtype), np.zeros((count, len(axes)), axes[0].dtype)
    for axis, index in enumerate(axes):
        start[:, axis] = index[first[order]]
        np.minimum.at(start[:, axis], region, index)
        np.maximum.at(stop[:, axis], region, index + 1)
    given, suggested = _main_pairs(region, wrong, first[order])
    return RegionColumns(
        example=example,
        number=np.arange(count) - np.searchsorted(example, example),
        given=given,
        suggested=suggested,
        num_elements=num_elements,
        start=start,
        stop=stop,
        loss_sum=np.bincount(region, weights=wrong.loss),
        p_t=np.bincount(region, weights=wrong.p_t) / num_elements,
    )


def _main_pairs(region: Array, wrong: WrongElements, first: Array) -> tuple[Array, Array]:
    """The pair of target and prediction of each region with the largest sum of losses; of equal ones the smallest."""
    given, suggested = wrong.given[first], wrong.suggested[first]
    differs = (wrong.given != given[region]) | (wrong.suggested != suggested[region])
    if not differs.any():
        return given, suggested
    is_mixed = np.zeros(len(first), bool)
    is_mixed[region[differs]] = True
    mixed = is_mixed[region].nonzero()[0]
    pairs = region[mixed], wrong.given[mixed], wrong.suggested[mixed]
    order = np.lexsort(pairs[::-1])
    columns = [column[order] for column in pairs]
    starts = np.flatnonzero(np.logical_or.reduce([np.diff(column, prepend=-1) != 0 for column in columns]))
    sums = np.add.reduceat(wrong.loss[mixed][order], starts)
    pair_region, pair_given, pair_suggested = (column[starts] for column in columns)
    largest = np.lexsort((-sums, pair_region))
    regions, begins = np.unique(pair_region, return_index=True)
    given[regions], suggested[regions] = pair_given[largest[begins]], pair_suggested[largest[begins]]
    return given, suggested
