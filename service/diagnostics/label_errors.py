"""Confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068): which labels are wrong, counted in two passes.

The numbers are those of cleanlab 2.9.0, from memory that does not grow with the data set and whatever its chunks. One
thing is ours: where several classes have an equal claim on a rounded count, the order is fixed (see `_calibrate`),
while cleanlab's follows the sorting routine of the processor it runs on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Booleans, Chunk, Chunks, Floats, Integers, ProbabilitySums, softmax

TOLERANCE = 1e-6  # cleanlab's: probabilities closer than this count as equal
LEAST_THRESHOLD = 2 * TOLERANCE
UNREACHABLE = 2.0  # the threshold of a class without rows


@dataclass(frozen=True)
class Overlap:
    """Two classes taken for each other.

    Args:
        first: The smaller class index.
        second: The larger class index.
        count: Estimated number of rows given one of the two and truly the other.
        probability: `count` as a share of all rows.
    """

    first: int
    second: int
    count: int
    probability: float


@dataclass(frozen=True, eq=False)
class ConfidentLearning:
    """What confident learning estimates of a data set of N rows and C classes.

    Args:
        thresholds: (C,) float64, the mean p_k of the rows labelled k, at least 2e-6; 2 for a class without rows.
        counts: (C,) int64, rows labelled k.
        confident_joint: (C, C) int64 [given, suggested], the paper's C before calibration; diagonal >= 1.
        calibrated_joint: (C, C) int64, scaled so that row k adds up to `counts[k]`.
        suspects: (C, C) int64 [given, suggested], the rows that `suspected` marks; diagonal 0.
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
        """Rows that `suspected` marks: cleanlab's `off_diagonal`, which it says counts too few below 4 classes."""
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
        """(C, C) float64, the paper's Q [given, true]; adds up to 1, or to 0 without rows."""
        return self.calibrated_joint / max(self.num_examples, 1)

    @property
    def noise_matrix(self) -> Floats:
        """(C, C) float64, P(given s | true y) at [s, y]; a column of zeros where no row is truly y."""
        return _ratio(self.calibrated_joint, self.calibrated_joint.sum(axis=0))

    @property
    def inverse_noise_matrix(self) -> Floats:
        """(C, C) float64, P(true y | given s) at [y, s]; a column of zeros where no row is labelled s."""
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
        """(C,) float64 in [0, 1], P(true is not k | given k); 0 for a class without rows."""
        return _ratio(self.label_issues, self.counts)

    @property
    def inverse_label_noise(self) -> Floats:
        """(C,) float64 in [0, 1], P(given is not k | true k); 0 where no row is truly k."""
        return _ratio(self.inverse_label_issues, self.calibrated_joint.sum(axis=0))

    @property
    def label_quality(self) -> Floats:
        """(C,) float64 in [0, 1], P(true k | given k); 1 for a class without rows."""
        return 1 - self.label_noise

    @property
    def most_confused(self) -> Integers:
        """(C,) int64, the other class that most rows labelled k truly are; -1 where there is none."""
        others = self.calibrated_joint.copy()
        np.fill_diagonal(others, 0)
        return np.where(others.any(axis=1), others.argmax(axis=1), -1)

    def overlapping_classes(self, most: int | None = None) -> list[Overlap]:
        """Pairs of classes taken for each other, most rows first, then by class index; at most `most` of them."""
        between = np.triu(self.calibrated_joint + self.calibrated_joint.T, k=1)
        first, second = np.nonzero(between)
        count = between[first, second]
        order = np.argsort(-count, kind="stable")[:most]
        rows = zip(first[order].tolist(), second[order].tolist(), count[order].tolist(), strict=True)
        return [Overlap(a, b, n, n / self.num_examples) for a, b, n in rows]


def confident_learning(chunks: Chunks, num_classes: int) -> ConfidentLearning:
    """Estimate the joint distribution of given and true labels in two passes.

    Args:
        chunks: Starts a pass; both passes must give the same rows, in any order and chunks of any size.
        num_classes: C, 1 or more. Classes without rows are allowed, and so are no rows at all.

    Raises:
        ValueError: A chunk does not have `num_classes` classes.
    """
    sums = ProbabilitySums(num_classes)
    for chunk in chunks():
        p = _probabilities(chunk, num_classes)
        sums.add(chunk.targets, p[np.arange(len(p)), chunk.targets])
    thresholds = np.maximum(sums.means(empty=UNREACHABLE), LEAST_THRESHOLD)

    joint: Integers = np.zeros((num_classes, num_classes), dtype=np.int64)
    suspects = np.zeros_like(joint)
    for chunk in chunks():
        p = _probabilities(chunk, num_classes)
        suggested = _confident_class(p, thresholds)
        for counts, rows in (joint, suggested >= 0), (suspects, _suspected(p, chunk.targets, suggested)):
            np.add.at(counts.reshape(-1), chunk.targets[rows] * num_classes + suggested[rows], 1)
    np.fill_diagonal(joint, np.diagonal(joint).clip(min=1))
    return ConfidentLearning(thresholds, sums.counts, joint, _calibrate(joint, sums.counts), suspects)


def suspected(chunk: Chunk, found: ConfidentLearning) -> tuple[Booleans, Integers]:
    """Which rows have a label that confident learning holds for wrong, and what it holds for right.

    Args:
        chunk: Rows of the data set that `found` describes, or of one like it.
        found: The result of `confident_learning`.

    Returns:
        (n,) bool, what cleanlab's `find_label_issues(filter_by="confident_learning")` marks; and (n,) int64, the
        class a row confidently belongs to, -1 where there is none (such a row is never marked).

    Raises:
        ValueError: The chunk has another number of classes than `found`.
    """
    p = _probabilities(chunk, len(found.counts))
    suggested = _confident_class(p, found.thresholds)
    return _suspected(p, chunk.targets, suggested), suggested


def _probabilities(chunk: Chunk, num_classes: int) -> Floats:
    if chunk.logits.shape[1] != num_classes:
        raise ValueError(f"logits have {chunk.logits.shape[1]} classes, not {num_classes}")
    return softmax(chunk.logits)


def _confident_class(p: Floats, thresholds: Floats) -> Integers:
    """The only class whose threshold a row reaches, its likeliest class if there are several, -1 if there is none."""
    reached = p >= thresholds - TOLERANCE
    number = np.count_nonzero(reached, axis=1)
    only = np.where(number == 0, -1, reached.argmax(axis=1))
    return np.where(number > 1, p.argmax(axis=1), only)


def _suspected(p: Floats, targets: Integers, suggested: Integers) -> Booleans:
    """Rows that confidently belong to another class, unless their target is the likeliest after all."""
    suspects: Booleans = (suggested >= 0) & (suggested != targets)
    rows = np.flatnonzero(suspects)
    given, q = targets[rows], p[rows]
    q[np.arange(len(rows)), given] += TOLERANCE
    suspects[rows] = q.argmax(axis=1) != given
    return suspects


def _calibrate(joint: Integers, counts: Integers) -> Integers:
    """Scale each row of `joint` to add up to its class's count and round it so that it still does.

    What rounding leaves over goes, one by one, to the classes with the largest remainders, of equal ones to the last;
    what it adds too much is taken from those with the smallest, of equal ones from the first.
    """
    if not counts.any():
        return np.zeros_like(joint)
    # The second step undoes rounding only. It is here, and adds up column by column, because cleanlab's does: the
    # last bit decides which way a half is rounded.
    scaled = np.asfortranarray(joint) / joint.sum(axis=1)[:, None] * counts[:, None]
    scaled = scaled / scaled.sum() * counts.sum()
    rounded: Integers = np.rint(scaled).astype(np.int64)
    left_over = counts - rounded.sum(axis=1)
    for row in np.flatnonzero(left_over):
        order = np.argsort(scaled[row] - rounded[row], kind="stable")
        order = order[::-1] if left_over[row] > 0 else order
        rounded[row, order[: abs(left_over[row])]] += np.sign(left_over[row])
    return rounded


def _ratio(part: Integers, whole: Integers) -> Floats:
    """`part` / `whole`, 0 where `whole` is 0."""
    return part / np.maximum(whole, 1)
