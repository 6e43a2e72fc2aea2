"""The focal loss and its gradient by the formula of the paper, in 40-digit arithmetic with unbounded exponents.

Lin et al. 2017 (arXiv:1708.02002), equation 5: FL = alpha_t (1 - p_t)^gamma (-log p_t). No formula comes from the code
under test: probabilities are quotients of exponentials, and 1 - p is the sum of the other probabilities, which neither
overflow nor underflow in mpmath. Inputs are rounded to the dtype under test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf
from torch import Tensor

mpmath.mp.dps = 40


@dataclass(frozen=True)
class Class:
    """One class of a softmax: p, 1 - p and -log p."""

    p: mpf
    one_minus_p: mpf
    cross_entropy: mpf


@cache
def softmax(logits: tuple[float, ...]) -> tuple[Class, ...]:
    """Every class of one row; a logit of -inf has probability 0 and infinite cross-entropy."""
    powers = [mpmath.exp(mpf(x)) for x in logits]
    total = mpmath.fsum(powers)
    classes = []
    for j, power in enumerate(powers):
        others = mpmath.fsum(powers[:j] + powers[j + 1 :])
        classes.append(
            Class(
                p=power / total,
                one_minus_p=others / total,
                cross_entropy=mpmath.log1p(others / power) if power else mpmath.inf,
            )
        )
    return tuple(classes)


def log_odds(logits: Sequence[float], target: int) -> mpf:
    """z = log(p_t / (1 - p_t)) of one row of any width."""
    powers = [mpmath.exp(mpf(x)) for x in logits]
    return mpmath.log(powers[target] / mpmath.fsum(powers[:target] + powers[target + 1 :]))


def smoothed_target(num_classes: int, target: int, smoothing: float) -> list[mpf]:
    """The distribution (1 - smoothing) onehot(target) + smoothing / C."""
    share = mpf(smoothing) / num_classes
    return [share + (1 - mpf(smoothing) if j == target else 0) for j in range(num_classes)]


def softmax_focal(
    logits: Sequence[float],
    target: int,
    gamma: float,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> mpf:
    """The loss of one row; with smoothing that of the smoothed target."""
    return soft_focal(logits, smoothed_target(len(logits), target, smoothing), gamma, weights)


def softmax_focal_gradient(
    logits: Sequence[float],
    target: int,
    gamma: float,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> list[mpf]:
    """The gradient of `softmax_focal` in the logits."""
    return soft_focal_gradient(logits, smoothed_target(len(logits), target, smoothing), gamma, weights)


def soft_focal(
    logits: Sequence[float], shares: Sequence[Any], gamma: float, weights: Sequence[float] | None = None
) -> mpf:
    """The loss of one row: the sum over j of y_j alpha_j (1 - p_j)^gamma (-log p_j)."""
    classes = softmax(tuple(logits))
    alpha = [mpf(w) for w in weights] if weights is not None else [mpf(1)] * len(classes)
    return mpmath.fsum(
        y * a * c.one_minus_p ** mpf(gamma) * c.cross_entropy
        for y, a, c in zip(map(mpf, shares), alpha, classes, strict=True)
        if y
    )


def soft_focal_gradient(
    logits: Sequence[float], shares: Sequence[Any], gamma: float, weights: Sequence[float] | None = None
) -> list[mpf]:
    """The gradient of `soft_focal` in the logits, by the chain rule through every p_j."""
    classes = softmax(tuple(logits))
    alpha = [mpf(w) for w in weights] if weights is not None else [mpf(1)] * len(classes)
    gradient = [mpf(0)] * len(classes)
    for j, y in enumerate(map(mpf, shares)):
        if not y or not classes[j].one_minus_p:
            continue
        c, g = classes[j], mpf(gamma)
        by_p = -y * alpha[j] * (g * c.one_minus_p ** (g - 1) * c.cross_entropy + c.one_minus_p**g / c.p)
        for k, other in enumerate(classes):
            gradient[k] += by_p * (c.p * c.one_minus_p if k == j else -c.p * other.p)
    return gradient


def logistic(x: float) -> mpf:
    return 1 / (1 + mpmath.exp(-mpf(x)))


def sigmoid_focal(x: float, y: float, gamma: float, alpha: float | None = None) -> mpf:
    """The loss of one label: the binary cross-entropy times (1 - p_t)^gamma, p_t = y p + (1 - y) (1 - p)."""
    soft = mpf(y)
    cross_entropy = mpf(0)
    if soft:
        cross_entropy += soft * mpmath.log1p(mpmath.exp(-mpf(x)))
    if soft != 1:
        cross_entropy += (1 - soft) * mpmath.log1p(mpmath.exp(mpf(x)))
    miss = soft * logistic(-x) + (1 - soft) * logistic(x)
    return _sigmoid_alpha(soft, alpha) * miss ** mpf(gamma) * cross_entropy


def sigmoid_focal_gradient(x: float, y: float, gamma: float, alpha: float | None = None) -> mpf:
    """The derivative of `sigmoid_focal` in x."""
    soft, g = mpf(y), mpf(gamma)
    p, q = logistic(x), logistic(-x)
    miss = soft * q + (1 - soft) * p
    cross_entropy = soft * mpmath.log1p(mpmath.exp(-mpf(x))) + (1 - soft) * mpmath.log1p(mpmath.exp(mpf(x)))
    by_miss = g * miss ** (g - 1) * (1 - 2 * soft) * p * q * cross_entropy
    return _sigmoid_alpha(soft, alpha) * (by_miss + miss**g * ((1 - soft) * p - soft * q))


def asymmetric(x: float, y: float, gammas: tuple[float, float], clip: float, alpha: float | None = None) -> mpf:
    """The asymmetric loss of one label: y alpha P + (1 - y)(1 - alpha) N, with gammas of positives and negatives."""
    soft, weight = mpf(y), mpf("0.5") if alpha is None else mpf(alpha)
    scale, lowered = 2 if alpha is None else 1, logistic(x) - mpf(clip)
    positive = logistic(-x) ** mpf(gammas[0]) * mpmath.log1p(mpmath.exp(-mpf(x)))
    negative = lowered ** mpf(gammas[1]) * -mpmath.log(logistic(-x) + mpf(clip)) if lowered > 0 else mpf(0)
    return scale * (weight * soft * positive + (1 - weight) * (1 - soft) * negative)


def _sigmoid_alpha(y: mpf, alpha: float | None) -> mpf:
    return mpf(1) if alpha is None else mpf(alpha) * y + (1 - mpf(alpha)) * (1 - y)


def log(x: mpf) -> float:
    """The logarithm as a float; -inf of 0."""
    return float(mpmath.log(x)) if x else -math.inf


SMALLEST_NORMAL_FLOAT32 = 1.1754943508222875e-38


def relative_error(ours: float, exact: mpf) -> float:
    """Relative error of a number; 0 if both numbers are below the smallest normal number of float32."""
    if abs(exact) < SMALLEST_NORMAL_FLOAT32:
        return 0.0 if abs(ours) <= SMALLEST_NORMAL_FLOAT32 else float("inf")
    return float(abs(mpf(ours) - exact) / abs(exact))


@cache
def _scores_of_label(logits: tuple[float, ...], target: int) -> dict[str, mpf]:
    """The scores of one row that do not depend on gamma, as the papers and cleanlab's documentation define them."""
    classes = softmax(logits)
    c, others = classes[target], classes[:target] + classes[target + 1 :]
    entropy = mpmath.fsum(each.p * each.cross_entropy for each in classes if each.p)
    # cleanlab bounds both p_t and the ratio, see `_confidence_weighted_entropy` in cleanlab/rank.py.
    bound = mpf("1e-6")
    ratio = entropy / mpmath.log(len(classes)) / max(c.p, bound)
    return {
        "cross_entropy": c.cross_entropy,
        "p_t": c.p,
        "log_odds": mpmath.log(c.p / c.one_minus_p) if c.one_minus_p else mpmath.inf,
        "prediction": mpf(logits.index(max(logits))),
        "logit_margin": mpf(logits[target]) - max(mpf(x) for j, x in enumerate(logits) if j != target),
        "normalized_margin": (c.p - max(other.p for other in others) + 1) / 2,
        "entropy": entropy,
        "confidence_weighted_entropy": mpmath.log1p(ratio) / max(ratio, bound),
        "el2n": mpmath.sqrt(c.one_minus_p**2 + mpmath.fsum(other.p**2 for other in others)),
    }


def softmax_scores(
    logits: Tensor, targets: Tensor, gamma: float, weights: Sequence[float] | None = None, smoothing: float = 0.0
) -> dict[str, np.ndarray[Any, Any]]:
    """Every score of every row, and its gradient (N, C), rounded to float64.

    Smoothing changes the loss and its gradient; the other scores are those of the label.
    """
    rows = []
    for row, target in zip(map(tuple, logits.tolist()), targets.tolist(), strict=True):
        loss = softmax_focal(row, target, gamma, weights, smoothing)
        gradient = softmax_focal_gradient(row, target, gamma, weights, smoothing)
        norm = mpmath.sqrt(mpmath.fsum(g**2 for g in gradient))
        scores = {"loss": loss, "log_loss": log(loss), "grad_norm": norm}
        rows.append(_scores_of_label(row, target) | scores | {"gradient": gradient})
    return {name: np.array([row[name] for row in rows]).astype(np.float64) for name in rows[0]}
