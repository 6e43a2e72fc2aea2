"""Labels of several annotators in sparse form, and the votes for classes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers


@dataclass(frozen=True, eq=False)
class Annotations:
    """One label for each pair of an annotated example and an annotator of it.

    Args:
        examples: (n,) int64, places of the examples in the data set, ascending.
        annotators: (n,) int64 in [0, M), without an annotator twice for an example.
        labels: (n,) int64 in [0, C).
        num_annotators: M.
        num_classes: C.
    """

    examples: Integers
    annotators: Integers
    labels: Integers
    num_annotators: int
    num_classes: int

    @classmethod
    def of(
        cls, examples: Integers, annotators: Integers, labels: Integers, num_annotators: int, num_classes: int
    ) -> Annotations:
        """Annotations in any order."""
        if np.any(examples[1:] < examples[:-1]):
            order = np.argsort(examples, kind="stable")
            examples, annotators, labels = examples[order], annotators[order], labels[order]
        return cls(examples, annotators, labels, num_annotators, num_classes)

    @cached_property
    def annotated(self) -> Integers:
        """(u,) int64, places of the annotated examples in the data set, ascending."""
        return self.examples[self._starts]

    @cached_property
    def rows(self) -> Integers:
        """(n,) int64 in [0, u), place of the example of each annotation in `annotated`."""
        return np.repeat(np.arange(len(self._starts)), self.num_labels)

    @cached_property
    def num_labels(self) -> Integers:
        """(u,) int64, number of annotations of each annotated example."""
        return np.diff(self._starts, append=len(self.examples))

    @property
    def has_several(self) -> Booleans:
        """(u,) bool, True for examples with two annotators or more."""
        several: Booleans = self.num_labels > 1
        return several

    @cached_property
    def votes(self) -> Votes:
        """The classes that annotators gave to each example."""
        pairs = self.rows * self.num_classes + self.labels
        keys, places, counts = counted(pairs, len(self.annotated) * self.num_classes)
        return Votes(keys // self.num_classes, keys % self.num_classes, counts, places)

    @cached_property
    def _starts(self) -> Integers:
        """(u,) int64, first annotation of each annotated example."""
        is_first = np.ones(len(self.examples), np.bool_)
        is_first[1:] = self.examples[1:] != self.examples[:-1]
        return np.flatnonzero(is_first)


@dataclass(frozen=True, eq=False)
class Votes:
    """The classes that annotators gave to the annotated examples, sorted by example and class.

    Args:
        rows: (v,) int64 in [0, u), place of the example among the annotated ones.
        labels: (v,) int64, the class.
        counts: (v,) int64, number of annotators that gave it.
        of_annotations: (n,) int64 in [0, v), the vote of each annotation.
    """

    rows: Integers
    labels: Integers
    counts: Integers
    of_annotations: Integers

    @cached_property
    def starts(self) -> Integers:
        """(u,) int64, first vote of each annotated example."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    @property
    def ranks(self) -> Integers:
        """(v,) int64, number of votes of the same example for smaller classes."""
        ranks: Integers = np.arange(len(self.rows)) - self.starts[self.rows]
        return ranks

    def largest(self, values: Floats | Integers) -> Floats | Integers:
        """(u,), the largest value of the votes of each example; `values` is (v,)."""
        found: Floats | Integers = np.maximum.reduceat(values, self.starts) if len(values) else values
        return found

    def first_with_largest(self, values: Floats) -> Integers:
        """(u,) int64, the vote with the largest value of each example, of equal ones that of the smallest class."""
        places = np.flatnonzero(values == self.largest(values)[self.rows])
        _, first = np.unique(self.rows[places], return_index=True)
        return places[first]

    def sums(self, values: Floats | Integers | Booleans) -> Floats:
        """(u,) float64, the sum over the votes of each example; `values` is (v,)."""
        return np.bincount(self.rows, values, len(self.starts)).astype(np.float64)


def counted(keys: Integers, size: int) -> tuple[Integers, Integers, Integers]:
    """The different keys in ascending order, the place of each key among them, and their counts.

    Args:
        keys: (n,) int64 in [0, size).
        size: Number of possible keys.
    """
    if size > 2 * len(keys):
        different, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return different, places, counts
    # Without sorting, in a tenth of the time; an entry for each possible key takes no more memory than the keys.
    counts = np.bincount(keys, minlength=size)
    places = np.cumsum(counts > 0) - 1
    different = np.flatnonzero(counts)
    return different, places[keys], counts[different]
