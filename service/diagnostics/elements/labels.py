"""Label issues of multi-label examples: confident learning for each label against the rest, in constant memory.

The marks equal those of cleanlab 2.9.0, `multilabel_classification.filter.find_multilabel_issues_per_class`, if its
sorts are stable: among equal values the first rows are marked. Two passes estimate, and usually one more finds cutoffs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.diagnostics.chunks import Booleans, Floats, Integers, ProbabilitySums
from service.diagnostics.elements.cutoffs import Cutoffs, CutoffSearch, Taker
from service.diagnostics.elements.filters import RANKINGS, FilterName, Ranking, all_if_enough, num_wanted
from service.diagnostics.label_errors import TOLERANCE, ConfidentLearning, thresholds_of
from service.diagnostics.pair_counts import PairCounts

# Elements whose intermediate results stay in the processor's cache.
_BLOCK = 2**15


@dataclass(frozen=True, eq=False)
class LabelChunk:
    """Some multi-label examples of a data set.

    Args:
        targets: (n, L) int8, 1 (positive), 0 (negative) or -1 (ignored).
        logits: (n, L) float32 or float64, no NaN where a target counts.

    Raises:
        ValueError: The shapes differ.
    """

    targets: NDArray[np.int8]
    logits: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.logits.shape != self.targets.shape:
            raise ValueError(f"targets of shape {self.targets.shape} and logits of shape {self.logits.shape} differ")

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
    thresholds, counts = _thresholds(chunks, num_labels)
    searches: dict[Ranking, CutoffSearch] = {
        ranking: CutoffSearch(num_labels * _groups(ranking), least=-0.5 if ranking != "pair_margin" else 0)
        for ranking in RANKINGS[filter_by]
    }
    labels, available = _estimates(chunks, thresholds, counts, searches)
    wanted = {ranking: _wanted(ranking, labels, available) for ranking in searches}
    while True:
        for ranking, search in searches.items():
            search.narrow(wanted[ranking])
        if all(search.finished for search in searches.values()):
            break
        for block in _blocks(chunks(), num_labels):
            rows, _, _ = _differing(block)
            _add(searches, rows)
    return LabelIssues(labels, filter_by, {ranking: search.cutoffs for ranking, search in searches.items()})


class LabelMarker:
    """Marks the targets that are probably wrong; chunks come in the order of the data set."""

    def __init__(self, issues: LabelIssues) -> None:
        self._issues = issues
        self._thresholds = issues.thresholds
        self._takers = {ranking: Taker(cutoffs) for ranking, cutoffs in issues.cutoffs.items()}

    def mark(self, chunk: LabelChunk) -> Booleans:
        """(n, L) bool, the targets that the filter marks."""
        blocks = _blocks([chunk], len(self._issues.labels))
        marks = [self._mark(block).reshape(-1, chunk.num_labels) for block in blocks]
        return np.concatenate([np.zeros((0, chunk.num_labels), np.bool_), *marks])

    def _mark(self, block: _Block) -> Booleans:
        rows, _, differs = _differing(block)
        if self._issues.filter_by == "confident_learning":
            return _suggestions(block, self._thresholds)[1] & differs
        taken: Booleans = np.ones(len(rows.labels), np.bool_)
        for ranking, taker in self._takers.items():
            taken &= taker.take(rows.groups(ranking), rows.values(ranking))
        differs[rows.places] = taken
        return differs


@dataclass(frozen=True, eq=False)
class _Block:
    """Targets of some examples, flat: the label, the target (-1: ignored), p of the target and of its opposite."""

    labels: Integers
    targets: NDArray[np.int8]
    given: Floats
    other: Floats


@dataclass(frozen=True, eq=False)
class _Rows:
    """Targets that are less likely than their opposite, and their places in a block."""

    places: Integers
    labels: Integers
    targets: NDArray[np.int8]
    given: Floats
    other: Floats

    def groups(self, ranking: Ranking) -> Integers:
        """(m,) int64, the group of each target: label and target, or the label."""
        return self.labels * 2 + self.targets if _groups(ranking) == 2 else self.labels

    def values(self, ranking: Ranking) -> Floats:
        """(m,) float64, the largest are taken."""
        if ranking == "pair_margin":
            return self.other - self.given
        return -self.given if ranking != "margin" else -((self.given - self.other + 1) / 2)


def probabilities(logits: NDArray[np.floating[Any]]) -> Floats:
    """(n, L) float64 in [0, 1], the probabilities of positive targets."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-np.array(logits, np.float64, order="C"))))


def scores(chunk: LabelChunk) -> Floats:
    """(n, L) float64 in [0, 1], the probability of each target, NaN for an ignored one."""
    positive = probabilities(chunk.logits)
    return np.where(chunk.targets < 0, np.nan, np.where(chunk.targets == 1, positive, 1 - positive))


def _groups(ranking: Ranking) -> int:
    return 2 if ranking in {"pair_margin", "class_confidence"} else 1


def _blocks(chunks: Iterable[LabelChunk], num_labels: int) -> Iterator[_Block]:
    step = max(_BLOCK // max(num_labels, 1), 1)
    labels = np.tile(np.arange(num_labels), step)
    for chunk in chunks:
        if chunk.num_labels != num_labels:
            raise ValueError(f"logits have {chunk.num_labels} labels, not {num_labels}")
        for start in range(0, len(chunk.logits), step):
            targets = chunk.targets[start : start + step].reshape(-1)
            positive = probabilities(chunk.logits[start : start + step]).reshape(-1)
            negative = 1 - positive
            is_positive = targets == 1
            given, other = np.where(is_positive, positive, negative), np.where(is_positive, negative, positive)
            yield _Block(labels[: len(targets)], targets, given, other)


def _thresholds(chunks: LabelChunks, num_labels: int) -> tuple[Floats, Integers]:
    """(L, 2) thresholds, and the number of negative and positive targets."""
    sums = ProbabilitySums(num_labels * 2)
    for block in _blocks(chunks(), num_labels):
        counted = block.targets >= 0
        groups, given = block.labels * 2 + block.targets, block.given
        if counted.all():
            sums.add(groups, given)
        else:
            sums.add(groups[counted], given[counted])
    return thresholds_of(sums).reshape(-1, 2), sums.counts.reshape(-1, 2)


def _estimates(
    chunks: LabelChunks, thresholds: Floats, counts: Integers, searches: dict[Ranking, CutoffSearch]
) -> tuple[tuple[ConfidentLearning, ...], Integers]:
    """The estimates for each label, and (L, 2) targets that are less likely than their opposite."""
    num_labels = len(thresholds)
    joint: Integers = np.zeros(num_labels * 4, np.int64)
    suspects: Integers = np.zeros(num_labels * 4, np.int64)
    available: Integers = np.zeros(num_labels * 2, np.int64)
    for block in _blocks(chunks(), num_labels):
        suggests_given, suggests_other = _suggestions(block, thresholds)
        rows, cells, differs = _differing(block)
        same = np.flatnonzero(suggests_given)
        joint += np.bincount((block.labels[same] * 2 + block.targets[same]) * 2 + block.targets[same], None, len(joint))
        opposite = np.flatnonzero(suggests_other)
        joint += np.bincount(_opposite_cells(block, opposite), None, len(joint))
        suspects += np.bincount(_opposite_cells(block, opposite[differs[opposite]]), None, len(joint))
        available += np.bincount(cells, None, len(available))
        _add(searches, rows)
    shape = num_labels, 2, 2
    tables = zip(thresholds, counts, joint.reshape(shape), suspects.reshape(shape), strict=True)
    labels = tuple(
        ConfidentLearning.of(t, n, PairCounts.from_matrix(pairs), PairCounts.from_matrix(marked))
        for t, n, pairs, marked in tables
    )
    return labels, available.reshape(-1, 2)


def _opposite_cells(block: _Block, places: Integers) -> Integers:
    """The cells [label, target, 1 - target] of targets."""
    targets = block.targets[places]
    return (block.labels[places] * 2 + targets) * 2 + (1 - targets)


def _suggestions(block: _Block, thresholds: Floats) -> tuple[Booleans, Booleans]:
    """The targets that are confidently right, and those that are confidently wrong: see `label_errors`."""
    places = block.labels * 2 + block.targets
    reach = (thresholds - TOLERANCE).reshape(-1)
    counted = block.targets >= 0
    by_given = (block.given >= reach[places]) & counted
    by_other = (block.other >= reach[places ^ 1]) & counted
    # If both are reached the more likely one counts, and the negative one of equal ones.
    wrong = by_other & (~by_given | (block.other > block.given) | ((block.other == block.given) & (block.targets == 1)))
    return (by_given | by_other) & ~wrong, wrong


def _differing(block: _Block) -> tuple[_Rows, Integers, Booleans]:
    """The targets that are less likely than their opposite, their groups of label and target, and a mask of them."""
    raised = block.given + TOLERANCE
    differs = (block.other > raised) & (block.targets >= 0) | ((block.other == raised) & (block.targets == 1))
    places = np.flatnonzero(differs)
    labels, targets = block.labels[places], block.targets[places]
    return _Rows(places, labels, targets, block.given[places], block.other[places]), labels * 2 + targets, differs


def _add(searches: dict[Ranking, CutoffSearch], rows: _Rows) -> None:
    for ranking, search in searches.items():
        search.add(rows.groups(ranking), rows.values(ranking))


def _wanted(ranking: Ranking, labels: tuple[ConfidentLearning, ...], available: Integers) -> Integers:
    wanted = [num_wanted(ranking, label) for label in labels]
    if ranking == "pair_margin":
        wanted = [pairs[[0, 1], [1, 0]] for pairs in wanted]
    numbers = np.array(wanted, np.int64).reshape(-1)
    return all_if_enough(numbers, (available if _groups(ranking) == 2 else available.sum(axis=1)).reshape(-1))
