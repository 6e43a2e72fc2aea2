"""The softmax focal loss against a distribution over the classes: soft labels, and label smoothing.

The loss is the sum over c of y_c alpha_c (1 - p_c)^gamma (-log p_c). Every class has its own z_c = log p_c -
log(1 - p_c), computed relative to the largest logit so that each 1 - p_c keeps its digits. All is float64; the classes
are axis 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from service.loss.checks import not_ignored
from service.loss.formula import focal_from_log_odds

# Largest difference of a sum of soft labels from 1; of a narrow dtype its rounding step, if that is larger.
SUM_TOLERANCE = 1e-4
# Logarithm of no probability in float64, but finite.
LOWEST = -1e300


class SoftLabels(NamedTuple):
    """Checked soft labels.

    Args:
        share: float64 shares that sum to 1, the shape of the logits; equal shares where the labels do not count.
        total: float64 sums of the labels as given, the shape of the targets without the classes, as the following.
        counted: bool, False where every value is `ignore_index`.
        valid: bool, True where all values are >= 0 and their sum is 1 up to the tolerance.
    """

    share: Tensor
    total: Tensor
    counted: Tensor
    valid: Tensor


class LogProbabilities(NamedTuple):
    """log p and log(1 - p) of every class, float64."""

    log_p: Tensor
    log_one_minus: Tensor


def sum_tolerance(dtype: torch.dtype) -> float:
    """Largest difference from 1 of the sum of soft labels of a dtype."""
    return max(SUM_TOLERANCE, torch.finfo(dtype).eps)


def soft_labels(targets: Tensor, ignore_index: int | None) -> SoftLabels:
    """Check and normalise soft labels.

    Args:
        targets: (N, C) or (N, C, d1, ...) floats.
        ignore_index: Value of the labels that do not count, or None.
    """
    y = targets.double()
    total, counted = y.sum(1), not_ignored(y, ignore_index).any(1)
    valid = (y >= 0).all(1) & ((total - 1).abs() <= sum_tolerance(targets.dtype))
    usable = (counted & valid).unsqueeze(1)
    share = torch.where(usable, y / total.unsqueeze(1), 1 / y.shape[1])
    return SoftLabels(share, total, counted, valid)


def smoothed_labels(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """(1 - smoothing) onehot(t) + smoothing / C, float64; with it gamma 0 is torch's `label_smoothing`.

    Args:
        logits: (N, C) or (N, C, d1, ...), for the shape.
        targets: (N,) or (N, d1, ...) int64 in [0, C).
        smoothing: In [0, 1).
    """
    share = torch.full_like(logits, smoothing / logits.shape[1], dtype=torch.float64)
    index = targets.unsqueeze(1)
    return share.scatter_add(1, index, torch.full_like(index, 1 - smoothing, dtype=torch.float64))


def log_probabilities(logits: Tensor) -> LogProbabilities:
    """log p and log(1 - p) of every class of logits (N, C) or (N, C, d1, ...), of any floating dtype."""
    x = logits.double()
    top = x.detach().argmax(1, keepdim=True)
    is_top = torch.zeros_like(x, dtype=torch.bool).scatter(1, top, value=True)
    shifted = x - x.gather(1, top)
    # Not -inf: if every other class is masked, the gradient of their sum would be NaN.
    log_others = shifted.masked_fill(is_top, LOWEST).logsumexp(1, keepdim=True)
    log_total = torch.log1p(log_others.exp())
    log_p = shifted - log_total
    # The largest p_c has 1 - p_c = others / (1 + others), any other p_c is at most 1/2.
    log_one_minus = torch.where(is_top, log_others - log_total, torch.log1p(-log_p.exp().masked_fill(is_top, 0)))
    return LogProbabilities(log_p, log_one_minus)


def soft_focal(classes: LogProbabilities, share: Tensor, gamma: float, weights: Tensor | None) -> Tensor:
    """The loss of each element, float64 of the shape of the targets.

    Args:
        classes: Of the logits; a class with a share has log p > -inf.
        share: Shares of the classes, the shape of the logits.
        gamma: >= 0.
        weights: (C,) float64, or None for all 1.
    """
    log_p, log_one_minus = _with_share(classes, share)
    loss = focal_from_log_odds(log_p - log_one_minus, gamma, -log_p)
    return (_weighted(share, weights) * loss).sum(1)


def soft_alpha_t(share: Tensor, weights: Tensor | None) -> Tensor:
    """The sum over c of y_c alpha_c of each element, float64."""
    return torch.ones_like(share[:, 0]) if weights is None else _weighted(share, weights).sum(1)


@torch.no_grad()
def soft_gradient_norm(classes: LogProbabilities, share: Tensor, gamma: float, weights: Tensor | None) -> Tensor:
    """Norm of the gradient of `soft_focal` in the logits, for the same arguments.

    d FL / dx_k = p_k sum_c w_c - w_k with w_c = y_c alpha_c g_c / (1 - p_c) and g the slope.
    """
    log_p, log_one_minus = _with_share(classes, share)
    p = classes.log_p.exp()
    # The quotient -log p / (1 - p) tends to 1 as p does, where numerator and denominator underflow.
    quotient = torch.where(log_one_minus < -37, 1, -log_p / log_one_minus.exp())
    focus = torch.exp(gamma * log_one_minus) if gamma else torch.ones_like(p)
    pull = _weighted(share, weights) * focus * (gamma * p * quotient + 1)
    norm: Tensor = torch.linalg.vector_norm(p * pull.sum(1, keepdim=True) - pull, dim=1)
    return norm


def _with_share(classes: LogProbabilities, share: Tensor) -> LogProbabilities:
    """Any finite numbers for classes without a share: 0 times an infinite logarithm is NaN, as is its gradient."""
    return LogProbabilities(*(torch.where(share > 0, values, -1) for values in classes))


def _weighted(share: Tensor, weights: Tensor | None) -> Tensor:
    return share if weights is None else share * weights.reshape(-1, *[1] * (share.dim() - 2))
