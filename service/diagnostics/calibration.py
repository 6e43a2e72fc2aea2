"""Calibration: does a model that says 80 % hit 80 % of the time, and which temperature would make it so.

The expected calibration error and temperature scaling of Guo et al. 2017 (arXiv 1706.04599), as in their code
(gpleiss/temperature_scaling), with a temperature found to float64 accuracy in a few passes of bounded memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Chunk, Chunks, Floats, Integers, ProbabilitySums, softmax

MOST_PASSES = 12
ACCURACY = 1e-7  # of the temperature, relative; the NLL is then off by its square
CHANCE = 1e-12  # a mean gap that is no more than this above the target's, relative, is chance and rounding
FACTOR = 8.0  # the cut towards an end of the search that is 0 or infinity


@dataclass(frozen=True)
class Bin:
    """The rows whose confidence lies in (lower, upper].

    Args:
        lower: In [0, 1).
        upper: In (0, 1].
        count: Number of rows.
        accuracy: Share of them predicted as labelled; None without rows.
        confidence: Their mean confidence; None without rows.
    """

    lower: float
    upper: float
    count: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True)
class Calibration:
    """How far the confidence of N rows, max p, is from the accuracy of their predictions, argmax p.

    Everything but `bins` and `num_examples` is None without rows.

    Args:
        num_examples: N.
        bins: Equal parts of (0, 1], in order.
        ece: Expected calibration error, the mean over rows of |accuracy - confidence| of their bin, in [0, 1].
        accuracy: Share of rows predicted as labelled; of equal probabilities the first class is the prediction.
        confidence: Mean confidence.
        nll: Mean cross-entropy in nats.
        temperature: The T > 0 that minimises the mean cross-entropy of logits / T. None where there is none: every
            row's target has its largest logit (T = 0 would be best), or the logits are no better than chance
            (T = infinity would be), or differ by so little (1e-150) that no pass finds it.
        nll_scaled: Mean cross-entropy of logits / temperature; None without a temperature.
    """

    num_examples: int
    bins: tuple[Bin, ...]
    ece: float | None
    accuracy: float | None
    confidence: float | None
    nll: float | None
    temperature: float | None
    nll_scaled: float | None


def calibration(chunks: Chunks, bins: int = 15) -> Calibration:
    """Measure calibration in one pass, and the best temperature in 2 to 9 more, never more than 11.

    Args:
        chunks: Starts a pass; every pass must give the same rows. Their order and chunks change the last digits of
            `nll`, `nll_scaled` and `temperature`, and nothing else.
        bins: Number of bins of equal width, 1 or more.
    """
    edges = np.linspace(0, 1, bins + 1)
    sums = ProbabilitySums(bins)
    hits: Integers = np.zeros(bins, dtype=np.int64)
    start, one = _Slope(0), _Slope(1)
    for chunk in chunks():
        p = softmax(chunk.logits)
        confidence = p.max(axis=1)
        inside = np.searchsorted(edges, confidence) - 1
        sums.add(inside, confidence)
        hits += np.bincount(inside[p.argmax(axis=1) == chunk.targets], minlength=bins)
        start.add(chunk)
        one.add(chunk)
    listed = _bins(edges, sums, hits)
    n, confident = int(sums.counts.sum()), sums.counts * sums.means(empty=0)
    if n == 0:
        return Calibration(0, listed, None, None, None, None, None, None)
    best = _best_slope(chunks, start, one)
    return Calibration(
        num_examples=n,
        bins=listed,
        ece=float(np.abs(hits - confident).sum()) / n,
        accuracy=int(hits.sum()) / n,
        confidence=float(confident.sum()) / n,
        nll=one.nll / n,
        temperature=1 / best.beta if best else None,
        nll_scaled=best.nll / n if best else None,
    )


def _bins(edges: Floats, sums: ProbabilitySums, hits: Integers) -> tuple[Bin, ...]:
    ends = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    rows = zip(ends, sums.counts.tolist(), hits.tolist(), sums.means(empty=0).tolist(), strict=True)
    return tuple(
        Bin(lower, upper, count, right / count, confidence) if count else Bin(lower, upper, 0, None, None)
        for (lower, upper), count, right, confidence in rows
    )


class _Slope:
    """The summed cross-entropy of beta * logits, beta = 1 / T, and its first two derivatives by beta.

    With the gaps d_k = max z - z_k of a row, of which softmax(-beta d) takes the mean E and the variance V, the
    derivatives are d_y - E[d] and V[d]: the cross-entropy is convex in beta.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.nll = 0.0
        self.target_gap = 0.0
        self.mean_gap = 0.0
        self.variance = 0.0

    def add(self, chunk: Chunk) -> None:
        logits = chunk.logits.astype(np.float64)
        gaps: Floats = logits.max(axis=1, keepdims=True) - logits
        target_gap = gaps[np.arange(len(gaps)), chunk.targets]
        possible = gaps < math.inf
        gaps[~possible] = 0
        weights = np.exp(-self.beta * gaps) * possible
        total = weights.sum(axis=1)
        mean = np.einsum("ij,ij->i", weights, gaps) / total
        self.nll += float((self.beta * target_gap + np.log(total)).sum())
        self.target_gap += float(target_gap.sum())
        self.mean_gap += float(mean.sum())
        weights *= gaps
        self.variance += float((np.einsum("ij,ij->i", weights, gaps) / total - mean**2).sum())

    @property
    def too_low(self) -> bool:
        """Whether the best beta is larger."""
        return self.mean_gap > self.target_gap

    def newton(self) -> float:
        """The next beta by Newton's method on log E[d] = log d_y, NaN where that has no derivative.

        E[d] falls like a sum of exponentials of beta, so that its logarithm is close to a line.
        """
        if self.mean_gap <= 0 or self.variance <= 0:
            return math.nan
        return self.beta + (math.log(self.mean_gap) - math.log(self.target_gap)) * self.mean_gap / self.variance


def _best_slope(chunks: Chunks, start: _Slope, one: _Slope) -> _Slope | None:
    """The slope at the best beta; None where the cross-entropy falls towards beta = 0 or infinity, or where
    the passes do not suffice.

    Args:
        chunks: Starts a pass.
        start: The slope at beta = 0, where the cross-entropy falls unless the logits are no better than chance.
        one: The slope at beta = 1. For beta to infinity E[d] goes to 0: some target gap makes it rise there.
    """
    if start.mean_gap - start.target_gap <= CHANCE * start.mean_gap or one.target_gap == 0:
        return None
    low, best = start, one
    high: _Slope | None = None
    passes = 1
    while not abs(best.newton() - best.beta) <= ACCURACY * best.beta:
        if passes == MOST_PASSES:
            return None
        if best.too_low:
            low = best
        else:
            high = best
        best = _Slope(_next_beta(best, low, high))
        for chunk in chunks():
            best.add(chunk)
        passes += 1
    return best


def _next_beta(last: _Slope, low: _Slope, high: _Slope | None) -> float:
    """Newton's step from the last slope or from the lower end if it stays between the ends, else a cut by ratio."""
    most = math.inf if high is None else high.beta
    for beta in last.newton(), low.newton():
        if low.beta < beta < most:
            return beta
    if high is None:
        return low.beta * FACTOR
    return math.sqrt(low.beta * high.beta) if low.beta else high.beta / FACTOR
