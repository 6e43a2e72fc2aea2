"""The focal loss and its gradient straight from the paper, in 40-digit arithmetic with unbounded exponents.

Lin et al. 2017 (arXiv:1708.02002), equation 5: FL = alpha_t (1 - p_t)^gamma (-log p_t). Nothing here comes from the
code under test: probabilities are quotients of exponentials, and 1 - p is the sum of the other probabilities, which
mpmath neither overflows nor underflows. Inputs are the values as the dtype under test stores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mpmath
from mpmath import mpf

mpmath.mp.dps = 40


@dataclass(frozen=True)
class Class:
    """What one class of a softmax contributes: p, 1 - p and -log p."""

    p: mpf
    rest: mpf
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
                rest=others / total,
                cross_entropy=mpmath.log1p(others / power) if power else mpmath.inf,
            )
        )
    return tuple(classes)


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
    """The loss of one row; with smoothing the sum over j of y_j alpha_j (1 - p_j)^gamma (-log p_j)."""
    classes = softmax(tuple(logits))
    alpha = [mpf(w) for w in weights] if weights is not None else [mpf(1)] * len(classes)
    return mpmath.fsum(
        y * a * c.rest ** mpf(gamma) * c.cross_entropy
        for y, a, c in zip(smoothed_target(len(classes), target, smoothing), alpha, classes, strict=True)
        if y
    )


def softmax_focal_gradient(
    logits: Sequence[float],
    target: int,
    gamma: float,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> list[mpf]:
    """The gradient of `softmax_focal` in the logits, by the chain rule through every p_j."""
    classes = softmax(tuple(logits))
    alpha = [mpf(w) for w in weights] if weights is not None else [mpf(1)] * len(classes)
    gradient = [mpf(0)] * len(classes)
    for j, y in enumerate(smoothed_target(len(classes), target, smoothing)):
        if not y or not classes[j].rest:
            continue
        c, g = classes[j], mpf(gamma)
        by_p = -y * alpha[j] * (g * c.rest ** (g - 1) * c.cross_entropy + c.rest**g / c.p)
        for k, other in enumerate(classes):
            gradient[k] += by_p * (c.p * c.rest if k == j else -c.p * other.p)
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


def _sigmoid_alpha(y: mpf, alpha: float | None) -> mpf:
    return mpf(1) if alpha is None else mpf(alpha) * y + (1 - mpf(alpha)) * (1 - y)


SMALLEST_NORMAL_FLOAT32 = 1.1754943508222875e-38


def relative_error(ours: float, exact: mpf) -> float:
    """Of one number; where float32 has no normal number for the exact one, ours may be anything at least as small."""
    if abs(exact) < SMALLEST_NORMAL_FLOAT32:
        return 0.0 if abs(ours) <= SMALLEST_NORMAL_FLOAT32 else float("inf")
    return float(abs(mpf(ours) - exact) / abs(exact))
