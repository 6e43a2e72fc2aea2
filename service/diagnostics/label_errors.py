"""Confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068): estimates of wrong labels in two passes.

The numbers equal those of cleanlab 2.9.0, but memory does not grow with the data set, and the chunks do not matter.
There is one difference: if several classes have the same remainder when counts are rounded, their order is fixed (see
`_calibrate`), while cleanlab's depends on the sorting routine of the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Booleans, Chunk, Chunks, Floats, Integers, ProbabilitySums, softmax
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
        confident_joint: (C, C) int64 [label, suggested class], the paper's C before calibration; diagonal >= 1.
        calibrated_joint: (C, C) int64, scaled so that row k sums to `counts[k]`.
        suspects: (C, C) int64 [label, suggested class], counts of the rows that `suspected` marks; diagonal 0.
    """

    thresholds: Floats
    counts: Integers
    confident_joint: Integers
    calibrated_joint: Integers
    suspects: Integers

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def num_label_issues(self) -> int:
        """Rows that `suspected` marks: cleanlab's `off_diagonal`, too low below 4 classes by its documentation."""
        return int(self.suspects.sum())

    @property
    def num_label_issues_calibrated(self) -> int:
        """Estimated rows with a wrong label, N (1 - trace Q): cleanlab's `off_diagonal_calibrated`."""
        return self.num_examples - int(np.trace(self.calibrated_joint))

    @property
    def health(self) -> float | None:
        """1 - `num_label_issues` / N in [0, 1]; None without rows."""
        return 1 - self.num_label_issues / self.num_examples if self.num_examples else None

    @property
    def joint(self) -> Floats:
        """(C, C) float64, the paper's Q [label, true class]; sums to 1, or to 0 without rows."""
        return self.calibrated_joint / max(self.num_examples, 1)

    @property
    def noise_matrix(self) -> Floats:
        """(C, C) float64, P(label s | true class y) at [s, y]; column y is 0 if no row is truly y."""
        return _ratio(self.calibrated_joint, self.calibrated_joint.sum(axis=0))

    @property
    def inverse_noise_matrix(self) -> Floats:
        """(C, C) float64, P(true class y | label s) at [y, s]; column s is 0 if no row is labelled s."""
        return _ratio(self.calibrated_joint.T, self.counts)

    @property
    def label_issues(self) -> Integers:
        """(C,) int64, estimated rows labelled k that are truly another class."""
        issues: Integers = self.counts - np.diagonal(self.calibrated_joint)
        return issues

    @property
    def inverse_label_issues(self) -> Integers:
        """(C,) int64, estimated rows that are truly k and labelled as another class."""
        issues: Integers = self.calibrated_joint.sum(axis=0) - np.diagonal(self.calibrated_joint)
        return issues

    @property
    def label_noise(self) -> Floats:
        """(C,) float64 in [0, 1], P(true class is not k | label k); 0 for a class without rows."""
        return _ratio(self.label_issues, self.counts)

    @property
    def inverse_label_noise(self) -> Floats:
        """(C,) float64 in [0, 1], P(label is not k | true class k); 0 if no row is truly k."""
        return _ratio(self.inverse_label_issues, self.calibrated_joint.sum(axis=0))

    @property
    def label_quality(self) -> Floats:
        """(C,) float64 in [0, 1], P(true class k | label k); 1 for a class without rows."""
        return 1 - self.label_noise

    @property
    def most_confused(self) -> Integers:
        """(C,) int64, the most frequent other true class of the rows labelled k; -1 if there is none."""
        others = self.calibrated_joint.copy()
        np.fill_diagonal(others, 0)
        return np.where(others.any(axis=1), others.argmax(axis=1), -1)

    def overlapping_classes(self, limit: int | None = None) -> list[ClassPair]:
        """Pairs of classes that are mistaken for each other, largest count first, then by class index."""
        between = np.triu(self.calibrated_joint + self.calibrated_joint.T, k=1)
        first, second = np.nonzero(between)
        count = between[first, second]
        order = np.argsort(-count, kind="stable")[:limit]
        rows = zip(first[order].tolist(), second[order].tolist(), count[order].tolist(), strict=True)
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
    thresholds = np.maximum(sums.means(empty=UNREACHABLE), MIN_THRESHOLD)

    joint: Integers = np.zeros((num_classes, num_classes), dtype=np.int64)
    suspects = np.zeros_like(joint)
    for chunk in chunks():
        p = _probabilities(chunk, num_classes)
        suggested = _confident_class(p, thresholds)
        for counts, rows in (joint, suggested >= 0), (suspects, _suspected(p, chunk.targets, suggested)):
            np.add.at(counts.reshape(-1), chunk.targets[rows] * num_classes + suggested[rows], 1)
    np.fill_diagonal(joint, np.diagonal(joint).clip(min=1))
    return ConfidentLearning(thresholds, sums.counts, joint, _calibrate(joint, sums.counts), suspects)


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


def _calibrate(joint: Integers, counts: Integers) -> Integers:
    """Scale each row of `joint` to sum to the count of its class, and round it to integers with the same sum.

    Missing units go to the classes with the largest remainders, the last class first among equal remainders. Excess
    units are taken from the classes with the smallest remainders, the first class first among equal remainders.
    """
    if not counts.any():
        return np.zeros_like(joint)
    # The second step corrects rounding errors only. Like the Fortran order, in which it sums by column, it is copied
    # from cleanlab: the last bit decides the direction in which a half is rounded.
    scaled = np.asfortranarray(joint) / joint.sum(axis=1)[:, None] * counts[:, None]
    scaled = scaled / scaled.sum() * counts.sum()
    rounded: Integers = np.rint(scaled).astype(np.int64)
    missing = counts - rounded.sum(axis=1)
    for row in np.flatnonzero(missing):
        order = np.argsort(scaled[row] - rounded[row], kind="stable")
        order = order[::-1] if missing[row] > 0 else order
        rounded[row, order[: abs(missing[row])]] += np.sign(missing[row])
    return rounded


def _ratio(part: Integers, whole: Integers) -> Floats:
    """`part` / `whole`, 0 where `whole` is 0."""
    return part / np.maximum(whole, 1)
