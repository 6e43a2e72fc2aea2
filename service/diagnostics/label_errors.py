"""Confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068): estimates of wrong labels in two passes.

The numbers equal those of cleanlab 2.9.0, but memory grows with neither the rows nor the square of the classes, and the
chunks do not matter. There is one difference: if several classes have the same remainder when counts are rounded, their
order is fixed (see `calibrate`), while cleanlab's depends on the sorting routine of the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Booleans, Chunk, Chunks, Floats, Integers, ProbabilitySums, softmax
from service.diagnostics.pair_counts import PairCounter, PairCounts, calibrate
from service.schema.replies.diagnostics import ClassPair

TOLERANCE = 1e-6  # cleanlab's: probabilities closer than this count as equal
MIN_THRESHOLD = 2 * TOLERANCE
UNREACHABLE = 2.0  # the threshold of a class without rows


@dataclass(frozen=True, eq=False)
class ConfidentLearning:
    """Estimates of confident learning for a data set of N rows and C classes.

    Args:
        thresholds: (C,) float64, the mean p_k of the rows labelled k, at least 2e-6; 2 for a class without rows.
        counts: (C,) int64, rows labelled k.
        confident_joint: [label, suggested class], the paper's C before calibration; diagonal >= 1.
        calibrated_joint: The same, scaled so that row k sums to `counts[k]`.
        suspects: [label, suggested class], counts of the rows that `suspected` marks; diagonal 0.
    """

    thresholds: Floats
    counts: Integers
    confident_joint: PairCounts
    calibrated_joint: PairCounts
    suspects: PairCounts

    @classmethod
    def of(cls, thresholds: Floats, counts: Integers, joint: PairCounts, suspects: PairCounts) -> ConfidentLearning:
        """The estimates that follow from the counts of two passes; `joint` may have zeros in its diagonal."""
        confident = joint.with_diagonal()
        return cls(thresholds, counts, confident, calibrate(confident, counts), suspects)

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def num_label_issues(self) -> int:
        """Rows that `suspected` marks: cleanlab's `off_diagonal`, too low below 4 classes by its documentation."""
        return int(self.suspects.counts.sum())

    @property
    def num_label_issues_calibrated(self) -> int:
        """Estimated rows with a wrong label, N (1 - trace Q): cleanlab's `off_diagonal_calibrated`."""
        return self.num_examples - int(self.calibrated_joint.diagonal().sum())

    @property
    def health(self) -> float | None:
        """1 - `num_label_issues` / N in [0, 1]; None without rows."""
        return 1 - self.num_label_issues / self.num_examples if self.num_examples else None

    @property
    def label_issues(self) -> Integers:
        """(C,) int64, estimated rows labelled k that are truly another class."""
        issues: Integers = self.counts - self.calibrated_joint.diagonal()
        return issues

    @property
    def inverse_label_issues(self) -> Integers:
        """(C,) int64, estimated rows that are truly k and labelled as another class."""
        issues: Integers = self.calibrated_joint.by_second() - self.calibrated_joint.diagonal()
        return issues

    @property
    def label_noise(self) -> Floats:
        """(C,) float64 in [0, 1], P(true class is not k | label k); 0 for a class without rows."""
        return _ratio(self.label_issues, self.counts)

    @property
    def inverse_label_noise(self) -> Floats:
        """(C,) float64 in [0, 1], P(label is not k | true class k); 0 if no row is truly k."""
        return _ratio(self.inverse_label_issues, self.calibrated_joint.by_second())

    @property
    def label_quality(self) -> Floats:
        """(C,) float64 in [0, 1], P(true class k | label k); 1 for a class without rows."""
        return 1 - self.label_noise

    @property
    def most_confused(self) -> Integers:
        """(C,) int64, the most frequent other true class of the rows labelled k; -1 if there is none."""
        return self.calibrated_joint.largest_off_diagonal()

    def overlapping_classes(self, limit: int | None = None) -> list[ClassPair]:
        """Pairs of classes that are mistaken for each other, largest count first, then by class index."""
        pairs = self.calibrated_joint.largest_pairs(limit)
        rows = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.counts.tolist(), strict=True)
        return [{"first": a, "second": b, "count": n, "probability": n / self.num_examples} for a, b, n in rows]


def confident_learning(chunks: Chunks, num_classes: int) -> ConfidentLearning:
    """Estimate the joint distribution of labels and true classes in two passes.

    Args:
        chunks: Starts a pass; both passes must yield the same rows, in any order and in chunks of any size.
        num_classes: C, 1 or more. Classes without rows are allowed, and so are no rows at all.

    Raises:
        ValueError: A chunk has another number of classes.
    """
    sums = ProbabilitySums(num_classes)
    for chunk in chunks():
        p = _probabilities(chunk, num_classes)
        sums.add(chunk.targets, p[np.arange(len(p)), chunk.targets])
    thresholds = thresholds_of(sums)

    joint, suspects = PairCounter(num_classes), PairCounter(num_classes)
    for chunk in chunks():
        p = _probabilities(chunk, num_classes)
        suggested = _confident_class(p, thresholds)
        for counter, rows in (joint, suggested >= 0), (suspects, _suspected(p, chunk.targets, suggested)):
            counter.add(chunk.targets[rows], suggested[rows])
    return ConfidentLearning.of(thresholds, sums.counts, joint.total(), suspects.total())


def thresholds_of(sums: ProbabilitySums) -> Floats:
    """(groups,) float64, the least probabilities for which a row confidently belongs to a class."""
    return np.maximum(sums.means(empty=UNREACHABLE), MIN_THRESHOLD)


def suspected(chunk: Chunk, learned: ConfidentLearning) -> tuple[Booleans, Integers]:
    """Mark the rows whose label is probably wrong, and suggest a class for each row.

    Args:
        chunk: Rows of the data set of `learned`, or of a similar data set.
        learned: The result of `confident_learning`.

    Returns:
        (n,) bool, the rows that cleanlab's `find_label_issues(filter_by="confident_learning")` marks; and (n,) int64,
        the class that a row confidently belongs to, -1 if there is none (such a row is never marked).

    Raises:
        ValueError: The chunk has another number of classes than `learned`.
    """
    p = _probabilities(chunk, len(learned.counts))
    suggested = _confident_class(p, learned.thresholds)
    return _suspected(p, chunk.targets, suggested), suggested


def _probabilities(chunk: Chunk, num_classes: int) -> Floats:
    if chunk.logits.shape[1] != num_classes:
        raise ValueError(f"logits have {chunk.logits.shape[1]} classes, not {num_classes}")
    return softmax(chunk.logits)


def _confident_class(p: Floats, thresholds: Floats) -> Integers:
    """The class whose threshold a row reaches; its most likely class if it reaches several, -1 if it reaches none."""
    reached = p >= thresholds - TOLERANCE
    number = np.count_nonzero(reached, axis=1)
    only = np.where(number == 0, -1, reached.argmax(axis=1))
    return np.where(number > 1, p.argmax(axis=1), only)


def _suspected(p: Floats, targets: Integers, suggested: Integers) -> Booleans:
    """Mark rows that confidently belong to another class, except if their target is the most likely class."""
    suspects: Booleans = (suggested >= 0) & (suggested != targets)
    rows = np.flatnonzero(suspects)
    labels, q = targets[rows], p[rows]
    q[np.arange(len(rows)), labels] += TOLERANCE
    suspects[rows] = q.argmax(axis=1) != labels
    return suspects


def _ratio(part: Integers, whole: Integers) -> Floats:
    """`part` / `whole`, 0 where `whole` is 0."""
    return part / np.maximum(whole, 1)
