"""Regions of wrong elements: which of them are connected, and the values of each region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from service.compute.elements import Elements
from service.loss.arrays import Array

ELEMENTS_AT_ONCE = 2**16


class WrongElements(NamedTuple):
    """Elements whose prediction differs from their target; all (P,), ordered by example and position.

    Args:
        example: Number of the example.
        position: Position in the example.
        given: Integers, class of the target; in sigmoid mode 0 or 1.
        suggested: Integers, prediction.
        loss: float64.
        p_t: Floats.
    """

    example: Array
    position: Array
    given: Array
    suggested: Array
    loss: Array
    p_t: Array

    def at(self, places: Array | slice) -> WrongElements:
        """Some of the elements."""
        return WrongElements(*(column[places] for column in self))


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
    """The region of each wrong element of some examples: (P,) numbers from 0, by the first elements of the regions."""
    if elements.layout == "rows":
        return np.arange(len(wrong.example))
    first = int(wrong.example[0])
    if elements.layout == "ragged":
        token, label = np.divmod(wrong.position, elements.per_row)
        order = np.lexsort((token, label, wrong.example))
        begins = np.diff(token[order], prepend=-2) != 1
        for column in (wrong.example, label):
            begins |= np.diff(column[order], prepend=-1) != 0
        region = np.empty(len(order), np.int32)
        region[order] = np.cumsum(begins) - 1
        return _by_first_elements(region)
    # Needed here only, and slow to import.
    from scipy import ndimage

    labels, axes = elements.grid[1], elements.axes
    places = axes[1:] if labels > 1 else axes
    structure = np.zeros((3,) * (2 + len(places)), bool)
    structure[1, 1] = ndimage.generate_binary_structure(len(places), 1)
    count = int(wrong.example[-1]) - first + 1
    is_wrong = np.zeros(count * elements.per_row, bool)
    is_wrong[(wrong.example - first) * elements.per_row + wrong.position] = True
    is_wrong = is_wrong.reshape(count, labels, *places)
    numbers: Array = ndimage.label(is_wrong, structure)[0]
    return _by_first_elements(numbers[is_wrong] - 1)


def _by_first_elements(region: Array) -> Array:
    """Number regions by their first elements."""
    first = _first_elements(region, int(region.max()) + 1)
    if (first[1:] > first[:-1]).all():
        return region
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    of_element: Array = rank[region]
    return of_element


def _first_elements(region: Array, count: int) -> Array:
    """(count,) int64, the first element of each region."""
    first = np.empty(count, np.int64)
    # Of elements of the same region the last one assigned stays, which is the first in order.
    for part in reversed(_parts(len(region))):
        of_part = region[part]
        first[of_part[::-1]] = np.arange(part.start + len(of_part) - 1, part.start - 1, -1)
    return first


def largest_regions(region: Array, wrong: WrongElements, most: int) -> tuple[Array, Array]:
    """Choose the regions of each example with the largest sums of losses; of equal ones the first.

    Args:
        region: (P,), see `connected`.
        wrong: The elements.
        most: Largest number of regions of an example.

    Returns:
        (K,) the chosen regions, by example and the largest sum first; and the place of each among all regions of its
        example.
    """
    loss_sum = np.bincount(region, weights=wrong.loss)
    example = wrong.example[_first_elements(region, len(loss_sum))]
    begins = np.searchsorted(example, example)
    order = np.lexsort((-loss_sum, example))
    chosen = order[np.arange(len(order)) - begins < most]
    return chosen, chosen - begins[chosen]


def coordinates(elements: Elements, position: Array) -> list[Array]:
    """The index of elements along each axis of their example's targets, at least one axis; int64, each (P,)."""
    axes = elements.axes
    inner = np.unravel_index(position % max(1, elements.per_row), axes) if axes else ()
    outer = [position // elements.per_row] if elements.layout == "ragged" or not axes else []
    return [*outer, *inner]


def region_columns(elements: Elements, region: Array, number: Array, wrong: WrongElements) -> RegionColumns:
    """Reduce wrong elements to their regions.

    Args:
        elements: The batch.
        region: (P,) the region of each element.
        number: (K,) see `RegionColumns`.
        wrong: The elements.
    """
    first = _first_elements(region, len(number))
    num_elements, loss_sum, p_t = np.zeros(len(number), np.int64), np.zeros(len(number)), np.zeros(len(number))
    start = np.stack(coordinates(elements, wrong.position[first]), axis=1)
    stop = start + 1
    for part in _parts(len(region)):
        of_part = region[part]
        for sums, values in ((num_elements, 1), (loss_sum, wrong.loss[part]), (p_t, wrong.p_t[part])):
            np.add.at(sums, of_part, values)
        for axis, index in enumerate(coordinates(elements, wrong.position[part])):
            np.minimum.at(start[:, axis], of_part, index)
            np.maximum.at(stop[:, axis], of_part, index + 1)
    given, suggested = _main_pairs(region, wrong, first)
    return RegionColumns(
        example=wrong.example[first].astype(np.int64),
        number=number,
        given=given,
        suggested=suggested,
        num_elements=num_elements,
        start=start,
        stop=stop,
        loss_sum=loss_sum,
        p_t=p_t / num_elements,
    )


def _parts(count: int) -> list[slice]:
    """Parts of wrong elements that are reduced at once: their indices take several times their memory."""
    return [slice(start, start + ELEMENTS_AT_ONCE) for start in range(0, count, ELEMENTS_AT_ONCE)]


def _main_pairs(region: Array, wrong: WrongElements, first: Array) -> tuple[Array, Array]:
    """The pair of target and prediction of each region with the largest sum of losses; of equal ones the smallest."""
    given, suggested = (column[first].astype(np.int64) for column in (wrong.given, wrong.suggested))
    is_mixed = np.zeros(len(first), bool)
    for part in _parts(len(region)):
        of_part = region[part]
        differs = (wrong.given[part] != given[of_part]) | (wrong.suggested[part] != suggested[of_part])
        is_mixed[of_part[differs]] = True
    if not is_mixed.any():
        return given, suggested
    sums = []
    for part in _parts(len(region)):
        mixed = is_mixed[region[part]]
        sums.append(_PairSums(region[part], *wrong.at(part)[2:5]).at(mixed).summed())
    pairs = _PairSums(*map(np.concatenate, zip(*sums, strict=True))).summed()
    largest = np.lexsort((-pairs.loss, pairs.region))
    regions, begins = np.unique(pairs.region, return_index=True)
    given[regions], suggested[regions] = pairs.given[largest[begins]], pairs.suggested[largest[begins]]
    return given, suggested


class _PairSums(NamedTuple):
    """Losses of pairs of target and prediction in regions."""

    region: Array
    given: Array
    suggested: Array
    loss: Array

    def at(self, places: Array) -> _PairSums:
        return _PairSums(*(column[places] for column in self))

    def summed(self) -> _PairSums:
        """One sum for each pair of a region, by region and pair."""
        ordered = self.at(np.lexsort((self.suggested, self.given, self.region)))
        begins = np.zeros(len(ordered.region), bool)
        begins[:1] = True
        for column in ordered[:3]:
            begins[1:] |= column[1:] != column[:-1]
        starts = begins.nonzero()[0]
        loss = np.add.reduceat(ordered.loss, starts) if len(starts) else ordered.loss
        return ordered.at(starts)._replace(loss=loss)
