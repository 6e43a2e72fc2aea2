"""Calibration of predicted probabilities, and the temperature that fits them best.

Expected calibration error and temperature scaling of Guo et al. 2017 (arXiv 1706.04599), as in their code
(gpleiss/temperature_scaling), but the temperature has float64 accuracy after a few passes in bounded memory.
"""

from __future__ import annotations

import math

import numpy as np

from service.diagnostics.chunks import Chunk, Chunks, Floats, Integers, ProbabilitySums, softmax
from service.schema.replies.diagnostics import Calibration, CalibrationBin

MAX_PASSES = 12
ACCURACY = 1e-7  # relative, of the temperature; the relative error of the NLL is its square
CHANCE = 1e-12  # relative excess of the mean gap over the target's gap that counts as chance and rounding
FACTOR = 8.0  # step of the search while an end of its interval is 0 or infinity


def calibration(chunks: Chunks, bins: int = 15) -> Calibration:
    """Measure calibration in one pass, and the best temperature in 2 to 9 more passes, at most 11.

    Args:
        chunks: Starts a pass; every pass must yield the same rows. Their order and chunk size change the last digits of
            `nll`, `nll_scaled` and `temperature` only.
        bins: Number of bins of equal width, 1 or more.
    """
    edges = np.linspace(0, 1, bins + 1)
    sums = ProbabilitySums(bins)
    hits: Integers = np.zeros(bins, dtype=np.int64)
    at_zero, at_one = _Slope(0), _Slope(1)
    for chunk in chunks():
        p = softmax(chunk.logits)
        confidence = p.max(axis=1)
        bin_of_row = np.searchsorted(edges, confidence) - 1
        sums.add(bin_of_row, confidence)
        hits += np.bincount(bin_of_row[p.argmax(axis=1) == chunk.targets], minlength=bins)
        at_zero.add(chunk)
        at_one.add(chunk)
    n, confidence_sums = int(sums.counts.sum()), sums.counts * sums.means(empty=0)
    best = _best_slope(chunks, at_zero, at_one) if n else None
    return {
        "num_examples": n,
        "bins": _bins(edges, sums, hits),
        "ece": float(np.abs(hits - confidence_sums).sum()) / n if n else None,
        "accuracy": int(hits.sum()) / n if n else None,
        "confidence": float(confidence_sums.sum()) / n if n else None,
        "nll": at_one.nll / n if n else None,
        "temperature": 1 / best.beta if best else None,
        "nll_scaled": best.nll / n if best else None,
    }


def _bins(edges: Floats, sums: ProbabilitySums, hits: Integers) -> list[CalibrationBin]:
    columns = (edges[:-1], edges[1:], sums.counts, hits, sums.means(empty=0))
    return [
        {
            "lower": lower,
            "upper": upper,
            "count": count,
            "accuracy": right / count if count else None,
            "confidence": confidence if count else None,
        }
        for lower, upper, count, right, confidence in zip(*(column.tolist() for column in columns), strict=True)
    ]


class _Slope:
    """Summed cross-entropy of beta * logits, beta = 1 / T, and its first two derivatives by beta.

    With the gaps d_k = max z - z_k of a row, and their mean E and variance V under softmax(-beta d), the derivatives
    are d_y - E[d] and V[d]: the cross-entropy is convex in beta.
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
        """True if the best beta is larger."""
        return self.mean_gap > self.target_gap

    def newton(self) -> float:
        """Next beta by Newton's method on log E[d] = log d_y, NaN if the derivative does not exist.

        E[d] falls like a sum of exponentials of beta, so its logarithm is close to a line.
        """
        if self.mean_gap <= 0 or self.variance <= 0:
            return math.nan
        return self.beta + (math.log(self.mean_gap) - math.log(self.target_gap)) * self.mean_gap / self.variance


def _best_slope(chunks: Chunks, at_zero: _Slope, at_one: _Slope) -> _Slope | None:
    """Find the slope at the best beta; None if the cross-entropy falls towards beta = 0 or infinity, or if
    `MAX_PASSES` passes do not suffice.

    Args:
        chunks: Starts a pass.
        at_zero: Slope at beta = 0, where the cross-entropy falls unless the logits are no better than chance.
        at_one: Slope at beta = 1. E[d] goes to 0 as beta goes to infinity, so the cross-entropy rises there if any
            target gap is positive.
    """
    if at_zero.mean_gap - at_zero.target_gap <= CHANCE * at_zero.mean_gap or at_one.target_gap == 0:
        return None
    low, best = at_zero, at_one
    high: _Slope | None = None
    passes = 1
    while not abs(best.newton() - best.beta) <= ACCURACY * best.beta:
        if passes == MAX_PASSES:
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
    """Newton's step from the last slope or the lower end if inside the interval, else a geometric bisection."""
    upper = math.inf if high is None else high.beta
    for beta in last.newton(), low.newton():
        if low.beta < beta < upper:
            return beta
    if high is None:
        return low.beta * FACTOR
    return math.sqrt(low.beta * high.beta) if low.beta else high.beta / FACTOR
