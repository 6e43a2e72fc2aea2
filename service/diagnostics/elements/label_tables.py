"""Tables of the label issues of multi-label examples, as in cleanlab's `multilabel_classification.dataset`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.diagnostics.elements.labels import LabelChunk


@dataclass(frozen=True, eq=False)
class CommonIssues:
    """Kinds of marked targets, the most frequent first, then by label, the positive ones before the negative ones.

    Args:
        labels: (2 L,) int64.
        given: (2 L,) bool, the target; the model suggests the opposite.
        counts: (2 L,) int64, marked targets.
        shares: (2 L,) float64, `counts` by the number of examples whose target of the label counts.
    """

    labels: Integers
    given: Booleans
    counts: Integers
    shares: Floats


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """Labels, the worst first, then by number.

    Args:
        labels: (L,) int64.
        label_issues: (L,) int64, marked positive targets.
        inverse_label_issues: (L,) int64, marked negative targets.
        label_noise: (L,) float64, `label_issues` by the number of examples whose target of the label counts.
        inverse_label_noise: (L,) float64, the same of `inverse_label_issues`.
    """

    labels: Integers
    label_issues: Integers
    inverse_label_issues: Integers
    label_noise: Floats
    inverse_label_noise: Floats

    @property
    def label_quality(self) -> Floats:
        """(L,) float64, 1 - `label_noise`."""
        return 1 - self.label_noise


class LabelIssueCounts:
    """Counts marked targets in chunks.

    Args:
        num_labels: L.
    """

    def __init__(self, num_labels: int) -> None:
        self.num_examples = 0
        self.num_issues = 0
        """Examples with a marked target."""
        self._counted: Integers = np.zeros(num_labels, np.int64)
        self._marked: Integers = np.zeros((2, num_labels), np.int64)

    def add(self, chunk: LabelChunk, marks: Booleans) -> None:
        """Count the marks of a chunk, (n, L) bool."""
        self.num_examples += len(marks)
        self.num_issues += int(marks.any(axis=1).sum())
        self._counted += (chunk.targets >= 0).sum(axis=0)
        for target in range(2):
            self._marked[target] += (marks & (chunk.targets == target)).sum(axis=0)

    @property
    def health(self) -> float | None:
        """Share of the examples without a marked target; None without examples."""
        return 1 - self.num_issues / self.num_examples if self.num_examples else None

    def common_issues(self) -> CommonIssues:
        """Count the kinds of marked targets."""
        num_labels = len(self._counted)
        labels, given = np.repeat(np.arange(num_labels), 2), np.tile([True, False], num_labels)
        counts = self._marked[given.astype(np.int64), labels]
        shares = counts / np.maximum(self._counted, 1)[labels]
        order = np.argsort(-shares, kind="stable")
        return CommonIssues(labels[order], given[order], counts[order], shares[order])

    def label_quality(self) -> LabelQuality:
        """Rank the labels by the share of marked positive targets."""
        inverse_noise, noise = self._marked / np.maximum(self._counted, 1)
        order = np.argsort(-noise, kind="stable")
        return LabelQuality(order, self._marked[1, order], self._marked[0, order], noise[order], inverse_noise[order])
