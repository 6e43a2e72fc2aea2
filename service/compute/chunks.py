"""Chunks of a batch: whole examples, or a part of one example that is larger than a chunk."""

from __future__ import annotations

from typing import Any, NamedTuple

from service.loss.arrays import Rows


class ChunkRange(NamedTuple):
    """A chunk of a batch of N examples with S elements each, numbered n * S + s.

    Args:
        start: Number of the first element.
        stop: End of the elements.
        index: Index of the chunk in an array (N, ...), or (N, ..., S).
    """

    start: int
    stop: int
    index: Any


class Split:
    """Divides logits (N, C) or (N, C, S), and targets (N, ...) or (N, ..., S), into chunks; views, no copies.

    Args:
        logits: One element of each example if they have two dimensions.
        targets: Their targets.

    Attributes:
        total: N * S.
    """

    def __init__(self, logits: Rows, targets: Rows) -> None:
        self._logits, self._targets = logits, targets
        self._elements = logits.shape[2] if logits.ndim == 3 else 1
        self.total = logits.shape[0] * self._elements

    def part(self, start: int, size: int) -> ChunkRange:
        """The chunk of up to `size` elements that begins at `start`: whole examples, if one fits."""
        per_example = self._elements
        if not self.total:
            return ChunkRange(0, 0, ...)
        first, begin = divmod(start, per_example)
        if begin == 0 and size >= per_example:
            last = min(self._logits.shape[0], first + size // per_example)
            return ChunkRange(start, last * per_example, slice(first, last))
        end = min(per_example, begin + size)
        return ChunkRange(start, first * per_example + end, (slice(first, first + 1), ..., slice(begin, end)))

    def arrays(self, part: ChunkRange) -> tuple[Rows, Rows]:
        """Logits and targets of a chunk."""
        if part.stop - part.start == self.total:
            return self._logits, self._targets
        return self._logits[part.index], self._targets[part.index]
