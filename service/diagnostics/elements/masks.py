"""Label issues of masks: scores of images and common confusions of pixels."""

from __future__ import annotations

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.diagnostics.elements.class_issues import likely_classes
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.pair_counts import PairCounter, PairCounts


def share_without_issues(marks: Booleans, targets: Integers) -> Floats:
    """(n,) float64, the share of the counted pixels of each image that are not marked: cleanlab's `num_pixel_issues`.

    Args:
        marks: (n, S) bool.
        targets: (n, S) int64, -1 for an ignored pixel.

    Returns:
        NaN for an image without counted pixels.
    """
    counted = np.count_nonzero(targets >= 0, axis=1)
    share: Floats = np.full(len(targets), np.nan)
    np.divide(np.count_nonzero(marks, axis=1), counted, out=share, where=counted > 0)
    return 1 - share


class PixelConfusions:
    """Counts marked elements by target and most likely class, as cleanlab's `summary.common_label_issues`.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._counter = PairCounter(num_classes)

    def add(self, chunk: ElementChunk, marks: Booleans) -> None:
        """Count the marks of a chunk, (n, S) bool."""
        self._counter.add(chunk.targets[marks], likely_classes(chunk, marks))

    def most_common(self, limit: int | None = None) -> PairCounts:
        """Pairs of target and most likely class: the largest count first, then by target and class."""
        total = self._counter.total()
        order = np.argsort(-total.counts, kind="stable")[:limit]
        return PairCounts(total.num_classes, total.first[order], total.second[order], total.counts[order])
