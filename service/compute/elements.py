"""The elements of a batch: the example that each belongs to, and the parts in which they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from service.formats.ragged import offsets_of
from service.loss.arrays import Array
from service.schema.structure import Layout

ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Elements:
    """Logits and targets of a batch, checked and with at most three axes, and how their elements form examples.

    R is the number of examples; of the layout `ragged`, where an example has any number of rows, that of all rows. S is
    the number of places of a row (1 without axis 2), L the number of labels (1 in softmax mode). Elements have the
    order of their targets, so that those of an example follow each other.

    Args:
        logits: (R, C) or (R, C, S); sigmoid (R, L) or (R, L, S), or the labels of rows as places, (R, 1, L).
        targets: (R,) or (R, S) integers; sigmoid and soft labels: numbers of the shape of the logits.
        sigmoid: True in sigmoid mode.
        soft: True if the targets are soft labels of softmax mode.
        offsets: (N + 1,) int64, the first row of each example, for the layout `ragged`; None if each row is one.
        axes: Lengths of the axes of a row's targets.
        shape: Shape of an output of the elements.
        layout: Layout of the batch.
        statistics: Scores of the elements that the client has reduced the logits to, in softmax mode, of the shape of
            the targets; the logits are the log-odds then, as if of one class. None with logits.
        num_classes: Number of classes of elements with statistics; None if unknown, or see the logits.
        counts: float64 of the shape of the targets, the number of elements that each stands for; None for 1 each.
    """

    logits: Array
    targets: Array
    sigmoid: bool
    soft: bool
    offsets: Array | None
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    layout: Layout = "rows"
    statistics: Mapping[str, Array] | None = None
    num_classes: int | None = None
    counts: Array | None = None

    @cached_property
    def grid(self) -> tuple[int, int, int]:
        """R, L and S: the shape of the elements."""
        rows, columns = self.logits.shape[:2]
        return rows, columns if self.sigmoid else 1, self.logits.shape[2] if self.logits.ndim == 3 else 1

    @property
    def per_row(self) -> int:
        """Number of elements of a row."""
        return self.grid[1] * self.grid[2]

    @property
    def num_examples(self) -> int:
        return len(self.logits) if self.offsets is None else len(self.offsets) - 1

    @property
    def is_plain(self) -> bool:
        """True if each example has one element, whose scores are the example's: the layout `rows` with one label."""
        return self.layout == "rows" and not self.soft and (not self.sigmoid or self.logits.shape[1:] == (1,))

    def index(self, example: int, position: int) -> tuple[int, ...]:
        """Index of an element along the axes of its example's targets, from its position in the example."""
        row, place = divmod(position, max(1, self.per_row))
        inner = tuple(map(int, np.unravel_index(place, self.axes))) if self.axes else ()
        return inner if self.offsets is None else (row, *inner)

    def place(self, number: int) -> tuple[int, tuple[int, ...]]:
        """The example of an element, and its index there; see `index`.

        Args:
            number: Number of the element among all of the batch, in the order of the targets.
        """
        row, position = divmod(number, max(1, self.per_row))
        if self.offsets is None:
            return row, self.index(row, position)
        example = int(np.searchsorted(self.offsets, row, "right")) - 1
        return example, self.index(example, (row - int(self.offsets[example])) * self.per_row + position)

    def values(self, example: int, position: int) -> tuple[Array, Array]:
        """The logits and the target of an element: softmax (C,) and () or soft (C,), sigmoid () and ()."""
        row, label, place = np.unravel_index(position, (position // max(1, self.per_row) + 1, *self.grid[1:]))
        row += example if self.offsets is None else self.offsets[example]
        at = (row, label if self.sigmoid else ALL, *([place] if self.logits.ndim == 3 else []))
        at_target = at if self.sigmoid or self.soft else (row, *at[2:])
        return self.logits[at], self.targets[at_target]

    def statistics_of(self, example: int, position: int) -> dict[str, float]:
        """The statistics of an element."""
        row = example if self.offsets is None else int(self.offsets[example])
        place = row * self.per_row + position
        return {name: values.reshape(-1)[place].item() for name, values in (self.statistics or {}).items()}


@dataclass(frozen=True, eq=False)
class Segments:
    """Consecutive segments of an array, one for each of some examples.

    Args:
        count: Number of segments.
        size: Length of each, unless `bounds` has another.
        bounds: (count + 1,) int64, begin of each segment, and the end of the last.
    """

    count: int
    size: int = 0
    bounds: Array | None = None

    @cached_property
    def sizes(self) -> Array:
        """(count,) int64, length of each segment."""
        return np.full(self.count, self.size) if self.bounds is None else np.diff(self.bounds)

    def reduce(self, ufunc: np.ufunc, values: Array, identity: float) -> Array:
        """Reduce each segment of `values` (n,) to one float64; an empty one to the identity."""
        if self.bounds is None:
            rows = values.reshape(self.count, self.size)
            return np.asarray(ufunc.reduce(rows, axis=1, initial=identity, dtype=np.float64))
        result = np.full(self.count, identity)
        filled = self.sizes > 0
        if filled.any():
            result[filled] = ufunc.reduceat(values, self.bounds[:-1][filled], dtype=np.float64)
        return result

    def spread(self, values: Array) -> Array:
        """Repeat the value of each segment over its length: (count,) to (n,)."""
        return np.repeat(values, self.size if self.bounds is None else self.sizes)

    def log_sum_exp(self, values: Array) -> Array:
        """Logarithm of the sum of the exponentials of each segment: (n,) to (count,)."""
        largest = self.reduce(np.maximum, values, -np.inf)
        shift = np.where(largest > -np.inf, largest, 0)
        with np.errstate(divide="ignore"):
            return shift + np.log(self.reduce(np.add, np.exp(values - self.spread(shift)), 0.0))

    def largest(self, values: Array, counts: Array) -> tuple[Array, Segments]:
        """The largest `counts` values of each segment, and their segments."""
        if self.bounds is None:
            ordered = np.sort(values.reshape(self.count, self.size), axis=1)[:, ::-1].reshape(-1)
        else:
            ordered = values[np.lexsort((-values, self.spread(np.arange(self.count))))]
        starts = np.cumsum(self.sizes) - self.sizes
        is_largest = np.arange(len(values)) - self.spread(starts) < self.spread(counts)
        return ordered[is_largest], Segments(self.count, bounds=offsets_of(counts))

    def owners(self, positions: Array) -> tuple[Array, Array]:
        """Convert positions in the array to numbers of segments and positions in these."""
        if self.bounds is None:
            return np.divmod(positions, self.size)
        owner = np.searchsorted(self.bounds, positions, "right") - 1
        return owner, positions - self.bounds[owner]


class Part(NamedTuple):
    """A part of a batch that is computed at once: some examples, or some elements of one.

    Args:
        rows: Rows of the logits.
        places: Places of these rows.
        first: Its first example.
        segments: Its elements of each example, from the first on.
    """

    rows: slice
    places: slice
    first: int
    segments: Segments

    def of(self, values: Array, *, by_class: bool) -> Array:
        """The part of logits or targets; `by_class` if their axis 1 is that of classes or labels."""
        if self.places == ALL:
            return values[self.rows]
        return values[self.rows, :, self.places] if by_class else values[self.rows, self.places]

    def owners(self, elements: Elements, positions: Array) -> tuple[Array, Array]:
        """Convert positions in the part to numbers of examples and positions in these."""
        owner, position = self.segments.owners(positions)
        if self.places != ALL:
            label, place = np.divmod(position, self.places.stop - self.places.start)
            position = label * elements.grid[2] + self.places.start + place
        elif elements.offsets is not None and self.segments.bounds is None:
            position = position + (self.rows.start - elements.offsets[self.first]) * elements.per_row
        return owner + self.first, position

    def is_whole(self, elements: Elements) -> bool:
        """True if the part has all elements of its examples."""
        if self.places != ALL:
            return False
        return elements.offsets is None or self.segments.bounds is not None

    def store(self, elements: Elements, values: Array, result: Array) -> None:
        """Store values of the part's elements (n,) into an array with all elements of the batch."""
        rows, labels, places = elements.grid
        target = result.reshape(rows, labels, places)[self.rows, :, self.places]
        target[...] = values.reshape(target.shape)


# A batch whose examples have one element each.
EVERY_ROW = Part(ALL, ALL, 0, Segments(1, 1))


def split(elements: Elements, num_elements: int, *, whole: bool) -> Iterator[Part]:
    """Split a batch into parts, in their order.

    Args:
        elements: The batch.
        num_elements: Largest number of elements of a part, if an element of each row fits.
        whole: True to keep the elements of an example together, however many it has.
    """
    parts = _split_rows if elements.offsets is None else _split_ragged
    return parts(elements, num_elements, whole=whole)


def _split_rows(elements: Elements, num_elements: int, *, whole: bool) -> Iterator[Part]:
    rows, labels, places = elements.grid
    if elements.per_row <= num_elements or whole or places == 1:
        step = max(1, num_elements // max(1, elements.per_row))
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            yield Part(slice(start, stop), ALL, start, Segments(stop - start, elements.per_row))
        return
    step = max(1, num_elements // labels)
    for row in range(rows):
        for start in range(0, places, step):
            stop = min(places, start + step)
            yield Part(slice(row, row + 1), slice(start, stop), row, Segments(1, labels * (stop - start)))


def _split_ragged(elements: Elements, num_elements: int, *, whole: bool) -> Iterator[Part]:
    assert elements.offsets is not None
    offsets, first = elements.offsets, 0
    step = max(1, num_elements // max(1, elements.per_row))
    while first < elements.num_examples:
        start = int(offsets[first])
        last = max(first + 1, int(np.searchsorted(offsets, start + step, "right")) - 1)
        stop = int(offsets[last])
        if stop - start <= step or whole:
            bounds = (offsets[first : last + 1] - start) * elements.per_row
            yield Part(slice(start, stop), ALL, first, Segments(last - first, bounds=bounds))
        else:
            for begin in range(start, stop, step):
                end = min(stop, begin + step)
                yield Part(slice(begin, end), ALL, first, Segments(1, (end - begin) * elements.per_row))
        first = last
