"""Calls of the kernels, with results and scratch space that are allocated once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.diagnostics.elements import kernels
from service.diagnostics.elements.element_chunks import Logits, Part
from service.loss.kernels.cpu_llvm import LANES

# Pairs of an element and a class whose margins are kept at a time.
_MAX_PAIRS = 2**17


class KernelRunner:
    """Runs the kernels for elements with C classes; not for several threads at a time.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        # For two blocks of elements with a margin of each other class.
        room = max(_MAX_PAIRS, 2 * LANES * num_classes)
        self._places, self._groups, self._margins = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
        self._block, self._queue = (np.zeros((num_classes, LANES)) for _ in range(2))
        self._queued, self._lanes = np.empty(LANES, np.int64), np.empty((kernels.NUM_LANES, LANES))

    def probabilities(self, logits: Logits, by_rows: bool) -> Floats:
        """(S, C) float64, of contiguous float32 or float64 logits (S, C), or (C, S) without `by_rows`."""
        p: Floats = np.zeros(logits.shape if by_rows else logits.shape[::-1])
        kernels.write_probabilities(logits, by_rows, p, self._block, self._lanes)
        return p

    def sums(self, part: Part) -> Integers:
        """(3, C) int64, sums of the targets' probabilities: see `ProbabilitySums.add_sums`."""
        sums: Integers = np.zeros((3, self.num_classes), np.int64)
        kernels.sum_confidences(part.logits, part.by_rows, part.targets, sums, self._block, self._lanes)
        return sums

    def write_confidences(self, part: Part, p_t: Floats, other: Floats) -> None:
        """Write the probability of each target, and that of the most likely other class: see the kernel."""
        kernels.write_confidences(part.logits, part.by_rows, part.targets, p_t, other, self._block, self._lanes)

    def suggestions(
        self, part: Part, reach: Floats, joint: Integers, suspects: Integers, least: Floats, suspected: Booleans
    ) -> Iterator[tuple[Integers, Floats]]:
        """Count suggestions, and yield groups and margins to use at once: see `kernels.count_suggestions`."""
        gate, start = least.min(axis=1), 0
        while start < len(part.targets):
            number, start = kernels.count_suggestions(
                part.logits,
                part.by_rows,
                part.targets,
                reach,
                joint,
                suspects,
                least,
                gate,
                suspected,
                self._groups,
                self._margins,
                self._block,
                self._lanes,
                start,
            )
            yield self._groups[:number], self._margins[:number]

    def margins(self, part: Part, least: Floats, differs: Booleans) -> Iterator[tuple[Integers, Integers, Floats]]:
        """Yield elements, groups and margins to use at once: see `kernels.write_margins`."""
        lead, start = _least_leads(least), 0
        while start < len(part.targets):
            number, start = kernels.write_margins(
                part.logits,
                part.by_rows,
                part.targets,
                least,
                lead,
                differs,
                self._places,
                self._groups,
                self._margins,
                self._queue,
                self._queued,
                self._block,
                self._lanes,
                start,
            )
            yield self._places[:number], self._groups[:number], self._margins[:number]


def _least_leads(least: Floats) -> Floats:
    """(C,) float64, smallest lead of another logit over the target's for which a margin can reach its least value.

    For a lead d, p_other - p_target is (e^d - 1) / (1 + e^d + r), where the other classes add r between 0 and
    (C - 2) e^d: the least r gives the largest positive margin, tanh(d / 2), the largest r the largest negative one.
    """
    others = least.copy()
    np.fill_diagonal(others, np.inf)
    # Less by more than the rounding errors.
    margin = others.min(axis=1) - 1e-9
    leads: Floats = np.full(len(margin), np.inf)
    above, below = (margin >= 0) & (margin < 1), (margin < 0) & (margin > -1)
    leads[above] = 2 * np.arctanh(margin[above])
    leads[below] = np.log((1 + margin[below]) / (1 - margin[below] * (len(least) - 1)))
    leads[margin <= -1] = -np.inf
    return leads
