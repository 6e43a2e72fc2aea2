"""The focal loss of independent labels, and the asymmetric loss: negatives with another gamma and a lower p."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from service.loss.formula import Logistic, focal_from_log_odds, focal_slope, log_focal_from_log_odds
from service.loss.tracing import has_values
from service.schema.config import LossConfig


class Focus(NamedTuple):
    """The focusing parameters of the asymmetric loss of Ridnik et al. 2021 (arXiv:2009.14119).

    Args:
        gamma: >= 0, of positive labels.
        gamma_negative: >= 0, of negative labels.
        clip: In [0, 1), subtracted from the probability p of negative labels: p_m = max(p - clip, 0).
    """

    gamma: float
    gamma_negative: float
    clip: float = 0.0

    @classmethod
    def of(cls, config: LossConfig) -> Focus:
        """The focusing parameters of a configuration."""
        negative = config.gamma if config.gamma_negative is None else config.gamma_negative
        return cls(float(config.gamma), float(negative), config.clip)

    @property
    def is_symmetric(self) -> bool:
        """True for the focal loss of Lin et al. 2017, in which a soft label has one p_t."""
        return self.gamma == self.gamma_negative and self.clip == 0


def sigmoid_focal(
    logits: Tensor,
    targets: Tensor,
    focus: Focus,
    alpha: Tensor | None,
    log_odds: Tensor | None = None,
    cross_entropy: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss and alpha_t of every label, float64.

    The asymmetric loss is alpha y (1 - p)^gamma (-log p) + (1 - alpha)(1 - y) p_m^gamma_negative (-log(1 - p_m)).

    Args:
        logits: Any shape.
        targets: In [0, 1], the same shape.
        focus: The focusing parameters.
        alpha: Weights of positives, of a shape that broadcasts; or None for all weights 1.
        log_odds: `sigmoid_log_odds` of these, if the caller has them.
        cross_entropy: `sigmoid_cross_entropy` of these, likewise.
    """
    alpha_t = sigmoid_alpha_t(targets, alpha)
    if focus.is_symmetric:
        z = sigmoid_log_odds(logits, targets) if log_odds is None else log_odds
        ce = sigmoid_cross_entropy(logits, targets) if cross_entropy is None else cross_entropy
        return focal_from_log_odds(z, focus.gamma, ce) * alpha_t, alpha_t
    x, (positive, negative) = logits.double(), _weights(targets, alpha)
    # Any finite number for a part of weight 0: 0 times an infinite loss is NaN, as is its gradient.
    positive_z = torch.where(positive == 0, 0, x)
    negative_z = torch.where(negative == 0, 0, negative_log_odds(x, focus.clip))
    loss = positive * focal_from_log_odds(positive_z, focus.gamma)
    return loss + negative * focal_from_log_odds(negative_z, focus.gamma_negative), alpha_t


def log_sigmoid_focal(
    logits: Tensor, targets: Tensor, focus: Focus, alpha: Tensor | None, log_odds: Tensor, cross_entropy: Tensor
) -> Tensor:
    """Logarithm of the loss of `sigmoid_focal`, which does not underflow for labels of 0 and 1.

    Args:
        logits: Any shape.
        targets: In [0, 1], the same shape.
        focus: The focusing parameters.
        alpha: Weights of positives, of a shape that broadcasts; or None for all weights 1.
        log_odds: `sigmoid_log_odds` of the logits and targets.
        cross_entropy: `sigmoid_cross_entropy` of these.
    """
    if focus.is_symmetric:
        hard = (targets == 0) | (targets == 1)
        log_soft = cross_entropy.log() + focus.gamma * logsigmoid(-log_odds)
        log_hard = log_focal_from_log_odds(log_odds, focus.gamma)
        return sigmoid_alpha_t(targets, alpha).log() + torch.where(hard, log_hard, log_soft)
    x, (positive, negative) = logits.double(), _weights(targets, alpha)
    z = negative_log_odds(x, focus.clip)
    return torch.logaddexp(
        torch.where(positive == 0, -torch.inf, positive.log() + log_focal_from_log_odds(x, focus.gamma)),
        torch.where(negative == 0, -torch.inf, negative.log() + log_focal_from_log_odds(z, focus.gamma_negative)),
    )


def sigmoid_slope(
    logits: Tensor, targets: Tensor, focus: Focus, alpha: Tensor | None, log_odds: Tensor, cross_entropy: Tensor
) -> Tensor:
    """Derivative of the loss of `sigmoid_focal` in the logit; arguments as in `log_sigmoid_focal`."""
    x, y = logits.double(), targets.double()
    if focus.is_symmetric:
        return _symmetric_slope(x, y, sigmoid_alpha_t(y, alpha), log_odds, cross_entropy, focus.gamma)
    positive, negative = _weights(y, alpha)
    z = negative_log_odds(x, focus.clip)
    # dz/dx = -p (1 - p) / (p_m (1 - p_m)), which is -1 without a clip.
    log_step = logsigmoid(x) + logsigmoid(-x) - logsigmoid(z) - logsigmoid(-z) if focus.clip else torch.zeros_like(x)
    rise = torch.where(torch.isposinf(z), 0, focal_slope(Logistic(z), focus.gamma_negative) * log_step.exp())
    return negative * rise - positive * focal_slope(Logistic(x), focus.gamma)


def _symmetric_slope(x: Tensor, y: Tensor, alpha_t: Tensor, z: Tensor, ce: Tensor, gamma: float) -> Tensor:
    """dFL/dx of each label, with m = 1 - p_t = y (1 - p) + (1 - y) p:
    alpha_t m^gamma ((p - y) + gamma (1 - 2y) CE p (1 - p) / m)."""
    log_m = logsigmoid(-z)
    difference = (1 - y) * torch.sigmoid(x) - y * torch.sigmoid(-x)
    # p (1 - p) / m equals p_t for a hard label, also where numerator and denominator underflow.
    soft_ratio = torch.exp(logsigmoid(x) + logsigmoid(-x) - log_m)
    ratio = torch.where((y == 0) | (y == 1), torch.sigmoid(z), soft_ratio)
    factor = torch.exp(gamma * log_m) if gamma else torch.ones_like(x)
    return alpha_t * factor * (difference + gamma * (1 - 2 * y) * ce * ratio)


def negative_log_odds(logits: Tensor, clip: float) -> Tensor:
    """log((1 - p_m) / p_m) of a negative label, float64: -x without a clip, +inf where p <= clip."""
    if clip == 0:
        return -logits
    p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
    lowered = p - clip
    # 1 - p_m = q + clip keeps its digits where p_m is near 1; both logarithms are finite in every branch.
    small = lowered < 0.5
    log_rest = torch.where(small, torch.log1p(-lowered.clamp(0, 0.5)), (q + clip).log())
    log_p = lowered.clamp(min=torch.finfo(lowered.dtype).tiny).log()
    return torch.where(lowered > 0, log_rest - log_p, torch.inf)


def _weights(targets: Tensor, alpha: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights of the positive and the negative part of every label."""
    y = targets.double()
    return (y, 1 - y) if alpha is None else (alpha * y, (1 - alpha) * (1 - y))


def sigmoid_alpha_t(targets: Tensor, alpha: Tensor | None) -> Tensor:
    """alpha_t of every label, float64: alpha y + (1 - alpha)(1 - y), or 1."""
    y = targets.double()
    return torch.ones_like(y) if alpha is None else alpha * y + (1 - alpha) * (1 - y)


def sigmoid_log_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """z of a sigmoid, any shape, float64: (2y - 1) x for y in {0, 1}.

    A soft y has p_t = y p + (1 - y)(1 - p), as torchvision's `sigmoid_focal_loss` has it.
    """
    x, y = logits.double(), targets.double()
    hard = (2 * y - 1) * x
    soft = (y != 0) & (y != 1)
    if has_values(soft) and not soft.any():
        return hard
    soft_y = torch.where(soft, y, 0.5)
    log_p, log_q = logsigmoid(x), logsigmoid(-x)
    log_y, log_not_y = soft_y.log(), torch.log1p(-soft_y)
    log_p_t = torch.logaddexp(log_y + log_p, log_not_y + log_q)
    log_one_minus = torch.logaddexp(log_y + log_q, log_not_y + log_p)
    return torch.where(soft, log_p_t - log_one_minus, hard)


def sigmoid_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with logits, unreduced, float64; y may be soft."""
    x, y = logits.double(), targets.double()
    # Leave out terms of weight 0: 0 times an infinite log is NaN.
    positive = torch.where(y == 0, 0, -y * logsigmoid(x))
    return positive + torch.where(y == 1, 0, -(1 - y) * logsigmoid(-x))
