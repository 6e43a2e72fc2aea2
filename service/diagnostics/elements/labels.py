"""Label issues of multi-label examples: confident learning for each label against the rest, in constant memory.

The marks equal those of cleanlab 2.9.0, `multilabel_classification.filter.find_multilabel_issues_per_class`, if its
sorts are stable: among equal values the first rows are marked. Two passes estimate, and usually one more finds cutoffs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.diagnostics.chunks import Booleans, Floats, Integers, ProbabilitySums
from service.diagnostics.elements import label_kernels
from service.diagnostics.elements.cutoffs import Cutoffs, CutoffSearch, Taker
from service.diagnostics.elements.element_chunks import for_kernels, wide
from service.diagnostics.elements.filters import RANKINGS, FilterName, Ranking, all_if_enough, num_wanted
from service.diagnostics.label_errors import TOLERANCE, ConfidentLearning, thresholds_of
from service.diagnostics.pair_counts import PairCounts
from service.loss.kernels.cpu_llvm import LANES

# Targets whose intermediate results stay in the processor's cache.
_BLOCK = 2**15


@dataclass(frozen=True, eq=False)
class LabelChunk:
    """Some multi-label examples of a data set.

    Args:
        targets: (n, L) int8, 1 (positive), 0 (negative) or -1 (ignored).
        logits: (n, L) float32 or float64, no NaN where a target counts.

    Raises:
        ValueError: The shapes differ, or a target has another value.
    """

    targets: NDArray[np.int8]
    logits: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.logits.shape != self.targets.shape:
            raise ValueError(f"targets of shape {self.targets.shape} and logits of shape {self.logits.shape} differ")
        # The kernels check no index.
        if self.targets.size and not -1 <= self.targets.min() <= self.targets.max() <= 1:
            raise ValueError("targets must be 0, 1 or -1")

    @classmethod
    def of(
        cls, targets: NDArray[Any], logits: NDArray[np.floating[Any]], ignore_index: int | None = -100
    ) -> LabelChunk:
        """The chunk with soft or hard `targets`, which are positive above 1/2."""
        signs = (targets > 0.5).astype(np.int8)
        return cls(signs if ignore_index is None else np.where(targets == ignore_index, np.int8(-1), signs), logits)

    @property
    def num_labels(self) -> int:
        """L."""
        return int(self.logits.shape[1])


LabelChunks = Callable[[], Iterable[LabelChunk]]
"""Each call starts another pass over the same examples in the same order."""


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Estimates for each of L labels, and the cutoffs of a filter.

    Args:
        labels: For each label, the estimates for the classes 0 (negative) and 1 (positive).
        filter_by: The filter.
        cutoffs: For each ranking of the filter, those of its groups.
    """

    labels: tuple[ConfidentLearning, ...]
    filter_by: FilterName
    cutoffs: dict[Ranking, Cutoffs]

    @property
    def thresholds(self) -> Floats:
        """(L, 2) float64, the least probabilities of confidently negative and positive examples."""
        return np.array([label.thresholds for label in self.labels]).reshape(-1, 2)

    @property
    def joints(self) -> Integers:
        """(L, 2, 2) int64, estimated targets by label, given target and true target."""
        joints: Integers = np.zeros((len(self.labels), 2, 2), np.int64)
        for table, pairs in zip(joints, (label.calibrated_joint for label in self.labels), strict=True):
            table[pairs.first, pairs.second] = pairs.counts
        return joints


def find_label_issues(
    chunks: LabelChunks, num_labels: int, filter_by: FilterName = "prune_by_noise_rate"
) -> LabelIssues:
    """Estimate the wrong targets of each label, and find what `LabelMarker` needs to mark them.

    Args:
        chunks: Starts a pass.
        num_labels: L.
        filter_by: The rule that marks.

    Raises:
        ValueError: A chunk has another number of labels.
    """
    sums = ProbabilitySums(num_labels * 2)
    for block in _blocks(chunks(), num_labels):
        sums.add_sums(block.sums())
    thresholds = thresholds_of(sums)

    # Targets that are less likely than their opposite are the only ones that a filter marks.
    searches: dict[Ranking, CutoffSearch] = {
        ranking: CutoffSearch(num_labels * _groups(ranking), least=0 if ranking == "pair_margin" else -0.5)
        for ranking in RANKINGS[filter_by]
    }
    joint, suspects = (np.zeros((num_labels * 2, 3), np.int64) for _ in range(2))
    for block in _blocks(chunks(), num_labels):
        _add(searches, block.suggestions(thresholds, joint, suspects)[0])
    labels = _estimates(thresholds, sums.counts, joint, suspects)

    wanted = {ranking: all_if_enough(_wanted(ranking, labels), search.counts) for ranking, search in searches.items()}
    while True:
        for ranking, search in searches.items():
            search.narrow(wanted[ranking])
        if all(search.finished for search in searches.values()):
            break
        for block in _blocks(chunks(), num_labels):
            _add(searches, block.differing())
    return LabelIssues(labels, filter_by, {ranking: search.cutoffs for ranking, search in searches.items()})


class LabelMarker:
    """Marks the targets that are probably wrong; chunks come in the order of the data set."""

    def __init__(self, issues: LabelIssues) -> None:
        self._issues = issues
        self._takers = {ranking: Taker(cutoffs) for ranking, cutoffs in issues.cutoffs.items()}

    def mark(self, chunk: LabelChunk) -> Booleans:
        """(n, L) bool, the targets that the filter marks."""
        marks = [self._mark(block) for block in _blocks([chunk], len(self._issues.labels))]
        return np.concatenate([np.zeros(0, np.bool_), *marks]).reshape(chunk.targets.shape)

    def _mark(self, block: _Block) -> Booleans:
        if self._issues.filter_by == "confident_learning":
            joint, suspects = (np.zeros((block.num_labels * 2, 3), np.int64) for _ in range(2))
            return block.suggestions(self._issues.thresholds.reshape(-1), joint, suspects)[1]
        differing = block.differing()
        taken: Booleans = np.ones(len(differing.places), np.bool_)
        for ranking, taker in self._takers.items():
            taken &= taker.take(differing.groups(ranking), differing.values(ranking))
        marks: Booleans = np.zeros(len(block.targets), np.bool_)
        marks[differing.places[taken]] = True
        return marks


class Scores(NamedTuple):
    """Probabilities of targets.

    Args:
        positive: (n, L) float64 in [0, 1], that of a positive target.
        given: (n, L) float64 in [0, 1], that of the given target: cleanlab's score of a label; NaN for an ignored one.
    """

    positive: Floats
    given: Floats


def scores(chunk: LabelChunk) -> Scores:
    """Probabilities of the targets of a chunk."""
    positive, given = np.zeros(chunk.targets.shape), np.zeros(chunk.targets.shape)
    for block in _blocks([chunk], chunk.num_labels):
        part = slice(block.start, block.start + len(block.targets))
        label_kernels.write_probabilities(
            block.logits, block.targets, positive.reshape(-1)[part], given.reshape(-1)[part], _lanes()
        )
    return Scores(positive, given)


@dataclass(frozen=True, eq=False)
class _Differing:
    """Targets that are less likely than their opposite.

    Args:
        places: (m,) int64, places in a block.
        labels: (m,) int64.
        targets: (m,) int8, 0 or 1.
        given: (m,) float64, probabilities of the targets.
        other: (m,) float64, probabilities of their opposites.
    """

    places: Integers
    labels: Integers
    targets: NDArray[np.int8]
    given: Floats
    other: Floats

    def groups(self, ranking: Ranking) -> Integers:
        """(m,) int64, label and target, or the label."""
        return self.labels * 2 + self.targets if _groups(ranking) == 2 else self.labels

    def values(self, ranking: Ranking) -> Floats:
        """(m,) float64, of which the largest are taken."""
        if ranking == "pair_margin":
            return self.other - self.given
        return -self.given if ranking != "margin" else -((self.given - self.other + 1) / 2)


@dataclass(frozen=True, eq=False)
class _Block:
    """Flat targets and logits of whole rows, from the target number `start` of a chunk on."""

    start: int
    num_labels: int
    targets: NDArray[np.int8]
    logits: NDArray[np.floating[Any]]

    def sums(self) -> Integers:
        """(3, 2 L) int64: see `ProbabilitySums.add_sums`."""
        sums: Integers = np.zeros((self.num_labels * 2, 3), np.int64)
        label_kernels.sum_confidences(self.logits, self.targets, self.num_labels, sums, _lanes())
        return sums.T

    def suggestions(self, thresholds: Floats, joint: Integers, suspects: Integers) -> tuple[_Differing, Booleans]:
        """Count suggestions, and return the targets that differ and a mask of the suspects."""
        suspected: Booleans = np.zeros(len(self.targets), np.bool_)
        places, p = self._room()
        reach = np.resize(thresholds.reshape(-1, 2) - TOLERANCE, (self.num_labels + LANES, 2)).T
        number = label_kernels.count_suggestions(
            self.logits,
            self.targets,
            self.num_labels,
            np.ascontiguousarray(reach),
            joint,
            suspects,
            suspected,
            places,
            p,
            _lanes(),
        )
        return self._differing(places[:number], p[:number]), suspected

    def differing(self) -> _Differing:
        """The targets that are less likely than their opposite."""
        places, p = self._room()
        number = label_kernels.write_differing(self.logits, self.targets, places, p, _lanes())
        return self._differing(places[:number], p[:number])

    def _room(self) -> tuple[Integers, Floats]:
        return np.empty(len(self.targets), np.int64), np.empty(len(self.targets))

    def _differing(self, places: Integers, positive: Floats) -> _Differing:
        targets, negative = self.targets[places], 1 - positive
        given, other = np.where(targets == 1, (positive, negative), (negative, positive))
        return _Differing(places, places % self.num_labels, targets, given, other)


def _lanes() -> Floats:
    return np.empty((label_kernels.NUM_LANES, LANES))


def _groups(ranking: Ranking) -> int:
    return 2 if ranking in {"pair_margin", "class_confidence"} else 1


def _blocks(chunks: Iterable[LabelChunk], num_labels: int) -> Iterator[_Block]:
    step = max(_BLOCK // max(num_labels, 1), 1)
    for chunk in chunks:
        if chunk.num_labels != num_labels:
            raise ValueError(f"logits have {chunk.num_labels} labels, not {num_labels}")
        for start in range(0, len(chunk.logits), step):
            targets, logits = chunk.targets[start : start + step], wide(chunk.logits[start : start + step])
            flat = (for_kernels(array).reshape(-1) for array in (targets, logits))
            yield _Block(start * num_labels, num_labels, *flat)


def _add(searches: dict[Ranking, CutoffSearch], differing: _Differing) -> None:
    for ranking, search in searches.items():
        search.add(differing.groups(ranking), differing.values(ranking))


def _estimates(
    thresholds: Floats, counts: Integers, joint: Integers, suspects: Integers
) -> tuple[ConfidentLearning, ...]:
    tables = (table[:, :2].reshape(-1, 2, 2) for table in (joint, suspects))
    rows = zip(thresholds.reshape(-1, 2), counts.reshape(-1, 2), *tables, strict=True)
    return tuple(
        ConfidentLearning.of(least, number, PairCounts.from_matrix(pairs), PairCounts.from_matrix(marked))
        for least, number, pairs, marked in rows
    )


def _wanted(ranking: Ranking, labels: tuple[ConfidentLearning, ...]) -> Integers:
    wanted = [num_wanted(ranking, label) for label in labels]
    if ranking == "pair_margin":
        wanted = [pairs[[0, 1], [1, 0]] for pairs in wanted]
    return np.array(wanted, np.int64).reshape(-1)
