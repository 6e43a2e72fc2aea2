"""Label issues of elements that have one of C classes each: confident learning over tokens or pixels.

The marks equal those of cleanlab 2.9.0, `filter.find_label_issues`, for the flat elements, if its sorts are stable:
among equal values the first elements are marked. Two passes estimate, and usually one more finds cutoffs. Memory is
about 30 MB, or 200 bytes for each pair of classes if that is more, however many elements there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers, ProbabilitySums
from service.diagnostics.elements.cutoffs import ALL, Cutoffs, CutoffSearch, Taker
from service.diagnostics.elements.element_chunks import ElementChunk, ElementChunks, Part
from service.diagnostics.elements.filters import RANKINGS, REDUCED, FilterName, Ranking, num_wanted
from service.diagnostics.elements.kernel_runner import KernelRunner
from service.diagnostics.label_errors import TOLERANCE, ConfidentLearning, thresholds_of
from service.diagnostics.pair_counts import PairCounts


@dataclass(frozen=True, eq=False)
class ClassIssues:
    """Estimates for the elements of a data set, and the cutoffs of a filter.

    Args:
        learned: The estimates; its rows are the elements that are not ignored.
        filter_by: The filter.
        cutoffs: For each ranking of the filter, those of its groups.
    """

    learned: ConfidentLearning
    filter_by: FilterName
    cutoffs: dict[Ranking, Cutoffs]


class Scores(NamedTuple):
    """Probabilities of elements.

    Args:
        p_t: (n, S) float64, that of the target: cleanlab's score of a token or a pixel; NaN for an ignored element.
        other: (n, S) float64, that of the most likely other class; NaN for an ignored element.
    """

    p_t: Floats
    other: Floats


def find_class_issues(
    chunks: ElementChunks, num_classes: int, filter_by: FilterName = "prune_by_noise_rate"
) -> ClassIssues:
    """Estimate the wrong targets, and find what `ClassMarker` needs to mark them.

    Args:
        chunks: Starts a pass.
        num_classes: C, 2 or more.
        filter_by: The rule that marks.

    Raises:
        ValueError: A chunk has another number of classes.
    """
    runner, sums = KernelRunner(num_classes), ProbabilitySums(num_classes)
    for part in _parts(chunks(), num_classes):
        sums.add_sums(runner.sums(part))
    thresholds = thresholds_of(sums)

    pairs = _PairSearch(runner)
    joint, suspects = (np.zeros((num_classes, num_classes), np.int64) for _ in range(2))
    for part in _parts(chunks(), num_classes):
        pairs.count(part, thresholds - TOLERANCE, joint, suspects)
    learned = ConfidentLearning.of(
        thresholds, sums.counts, PairCounts.from_matrix(joint), PairCounts.from_matrix(suspects)
    )
    cutoffs: dict[Ranking, Cutoffs] = {}
    for ranking in RANKINGS[filter_by]:
        wanted = num_wanted(ranking, learned)
        if ranking == "pair_margin":
            cutoffs[ranking] = pairs.finish(chunks, wanted)
        else:
            cutoffs[ranking] = _search_scores(chunks, ranking, wanted)
    return ClassIssues(learned, filter_by, cutoffs)


class ClassMarker:
    """Marks the elements whose targets are probably wrong; chunks come in the order of the data set."""

    def __init__(self, issues: ClassIssues) -> None:
        self._issues = issues
        self._takers = {ranking: Taker(cutoffs) for ranking, cutoffs in issues.cutoffs.items()}
        num_classes = len(issues.learned.counts)
        self._runner = KernelRunner(num_classes)
        if "pair_margin" in issues.cutoffs:
            self._least = issues.cutoffs["pair_margin"].values.reshape(num_classes, num_classes)
        else:
            # A class that is more likely than the target has a positive margin.
            self._least = np.zeros((num_classes, num_classes))

    def mark(self, chunk: ElementChunk) -> Booleans:
        """(n, S) bool, the elements that the filter marks."""
        marks: Booleans = np.ones(chunk.targets.shape, np.bool_)
        for row, part in enumerate(_parts([chunk], self._runner.num_classes)):
            marks[row] = self._mark(part)
        for ranking, taker in self._takers.items():
            if ranking != "pair_margin":
                places, groups, values = _ranked(chunk, ranking)
                taken = np.zeros(chunk.targets.size, np.bool_)
                taken[places] = taker.take(groups, values)
                marks &= taken.reshape(marks.shape)
        return marks

    def _mark(self, part: Part) -> Booleans:
        if self._issues.filter_by == "confident_learning":
            return self._suspected(part)
        if self._issues.filter_by not in REDUCED:
            return part.targets >= 0
        differs: Booleans = np.zeros(len(part.targets), np.bool_)
        taken: Booleans = np.zeros(len(part.targets), np.bool_)
        taker = self._takers.get("pair_margin")
        for places, groups, margins in self._runner.margins(part, self._least, differs):
            taken[places if taker is None else places[taker.take(groups, margins)]] = True
        return taken & differs

    def _suspected(self, part: Part) -> Booleans:
        joint, suspects = (np.zeros(self._least.shape, np.int64) for _ in range(2))
        suspected: Booleans = np.zeros(len(part.targets), np.bool_)
        reach, never = self._issues.learned.thresholds - TOLERANCE, np.full(self._least.shape, np.inf)
        for _ in self._runner.suggestions(part, reach, joint, suspects, never, suspected):
            pass
        return suspected


def scores(chunk: ElementChunk) -> Scores:
    """Probabilities of the targets, and of the most likely other classes."""
    runner = KernelRunner(chunk.num_classes)
    p_t, other = (np.full(chunk.targets.shape, np.nan) for _ in range(2))
    for row, part in enumerate(chunk.parts()):
        runner.write_confidences(part, p_t[row], other[row])
    return Scores(p_t, other)


def likely_classes(chunk: ElementChunk, marks: Booleans) -> Integers:
    """(m,) int64, the most likely class of each marked element; `marks` is (n, S)."""
    runner = KernelRunner(chunk.num_classes)
    likely = [np.zeros(0, np.int64)]
    for part, marked in zip(chunk.parts(), marks, strict=True):
        logits = part.logits[marked] if part.by_rows else np.ascontiguousarray(part.logits[:, marked].T)
        likely.append(runner.probabilities(logits, by_rows=True).argmax(axis=1))
    return np.concatenate(likely)


def probabilities(chunk: ElementChunk) -> Floats:
    """(n S, C) float64, the probabilities of all classes."""
    runner = KernelRunner(chunk.num_classes)
    p = [runner.probabilities(part.logits, part.by_rows) for part in chunk.parts()]
    return np.concatenate([np.zeros((0, chunk.num_classes)), *p])


class _PairSearch:
    """Search for the cutoffs of the margins of each pair of a target and another class.

    A target whose pairs all want at least as many margins as are positive needs no cutoffs: all of its elements that
    are more likely another class are taken.
    """

    def __init__(self, runner: KernelRunner) -> None:
        self._runner = runner
        self._shape = runner.num_classes, runner.num_classes
        self._search = CutoffSearch(runner.num_classes**2, least=0)

    def count(self, part: Part, reach: Floats, joint: Integers, suspects: Integers) -> None:
        """Count suggestions, and margins for the first pass of the search."""
        least, suspected = self._search.least.reshape(self._shape), np.zeros(len(part.targets), np.bool_)
        for groups, margins in self._runner.suggestions(part, reach, joint, suspects, least, suspected):
            self._search.add(groups, margins)

    def finish(self, chunks: ElementChunks, wanted: Integers) -> Cutoffs:
        """The cutoffs, after further passes."""
        available = self._search.counts.reshape(self._shape)
        everything = np.broadcast_to((wanted >= available).all(axis=1, keepdims=True), self._shape)
        numbers = np.where(everything, ALL, wanted).reshape(-1)
        self._search.narrow(numbers)
        while not self._search.finished:
            least = self._search.least.reshape(self._shape)
            for part in _parts(chunks(), self._runner.num_classes):
                for _, groups, margins in self._runner.margins(part, least, np.zeros(len(part.targets), np.bool_)):
                    self._search.add(groups, margins)
            self._search.narrow(numbers)
        found = self._search.cutoffs
        return Cutoffs(np.where(everything.reshape(-1), 0.0, found.values), found.ties)


def _parts(chunks: Iterable[ElementChunk], num_classes: int) -> Iterator[Part]:
    for chunk in chunks:
        if chunk.num_classes != num_classes:
            raise ValueError(f"logits have {chunk.num_classes} classes, not {num_classes}")
        yield from chunk.parts()


def _search_scores(chunks: ElementChunks, ranking: Ranking, wanted: Integers) -> Cutoffs:
    search = CutoffSearch(len(wanted))
    while not search.finished:
        for chunk in chunks():
            _, groups, values = _ranked(chunk, ranking)
            search.add(groups, values)
        search.narrow(wanted)
    return search.cutoffs


def _ranked(chunk: ElementChunk, ranking: Ranking) -> tuple[Integers, Integers, Floats]:
    """The elements that are not ignored, their groups, and the values of which the largest are taken."""
    p_t, other = (values.reshape(-1) for values in scores(chunk))
    places = np.flatnonzero(chunk.targets.reshape(-1) >= 0)
    values = -p_t[places] if ranking != "margin" else -((p_t[places] - other[places] + 1) / 2)
    targets = chunk.targets.reshape(-1)[places]
    return places, targets if ranking == "class_confidence" else np.zeros_like(targets), values
