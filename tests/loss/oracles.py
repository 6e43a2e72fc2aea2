"""The loss and its scores in float64, by numpy, scipy and torch's autograd, for data where 40 digits are too slow.

`softmax_scores` accepts any number of classes and any values; a test compares it with `reference`. The functions of
torch tensors are the published formulas, which are differentiable, and accurate for moderate logits only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED
from tests.loss.samples import double

Array = np.ndarray[Any, Any]


@np.errstate(all="ignore")
def softmax_scores(
    logits: Tensor,
    targets: Tensor,
    gamma: float,
    weights: Sequence[float] | None = None,
    ignore_index: int | None = -100,
) -> dict[str, Array]:
    """State, loss, scores and gradient of every row; rows that do not count have the loss 0 and NaN as scores.

    With z = log(p / (1 - p)) of the target: CE = log(1 + exp(-z)), 1 - p = 1 / (1 + exp(z)), and any other class has
    the probability (1 - p) pi_j, where pi is the softmax over the classes other than the target.
    """
    x, y = logits.detach().double().numpy(), targets.numpy()
    in_range = (y >= 0) & (y < x.shape[1])
    target = np.where(in_range, y, 0)
    at_target = np.arange(len(x)), target
    target_logit, others = x[at_target], x.copy()
    others[at_target] = -np.inf
    largest = others.max(1, initial=-np.inf)
    only_class = np.isneginf(largest)
    margin = np.where(only_class, np.inf, target_logit - largest)
    bad = ~(np.isfinite(target_logit) & (only_class | np.isfinite(margin)) & ~(np.isnan(x) | (x == np.inf)).any(1))
    ignored = np.zeros_like(in_range) if ignore_index is None else y.astype(object) == ignore_index
    state = np.select([ignored.astype(bool), ~in_range, bad], [IGNORED, BAD_TARGET, BAD_LOGIT], COUNTED)

    distance = others - np.where(only_class, 0, largest)[:, None]
    # The largest term is exp(0) = 1; without it the small terms keep their digits.
    rest_of_sum = np.exp(distance)
    rest_of_sum[np.arange(len(x)), others.argmax(1)] = 0
    log_sum = np.where(only_class, 0, np.log1p(rest_of_sum.sum(1)))
    z = margin - log_sum
    log_pi = distance - log_sum[:, None]
    p, other_p, minus_log_other_p = expit(z), expit(-z), np.logaddexp(0, z)
    entropy_of_others = -_times_log(np.exp(log_pi), log_pi).sum(1)
    ce = np.logaddexp(0, -z)
    entropy = p * ce - _times_log(other_p, -minus_log_other_p) + other_p * entropy_of_others
    squared = np.exp(2 * log_pi).sum(1)
    ratio = entropy / math.log(x.shape[1]) / np.maximum(p, 1e-6)
    alpha = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)[target]
    focus = np.exp(-gamma * minus_log_other_p) if gamma else np.ones_like(z)
    slope = alpha * focus * (gamma * p * ce + other_p)
    counted = state == COUNTED
    scores = {
        "cross_entropy": ce,
        "p_t": p,
        "log_odds": z,
        "logit_margin": margin,
        "normalized_margin": (p - other_p * np.exp(-log_sum) + 1) / 2,
        "entropy": entropy,
        "confidence_weighted_entropy": np.log1p(ratio) / np.maximum(ratio, 1e-6),
        "el2n": other_p * np.sqrt(1 + squared),
        "grad_norm": slope * np.sqrt(1 + squared),
    }
    # For z > 37, CE equals exp(-z) to the last bit.
    log_loss = np.log(alpha) + np.where(z > 37, -z, np.log(ce)) - (gamma * minus_log_other_p if gamma else 0)
    direction = np.exp(log_pi)
    direction[at_target] = -1
    return {
        "state": state,
        "loss": np.where(counted, alpha * focus * ce, 0),
        "log_loss": np.where(counted, log_loss, -np.inf),
        "alpha_t": np.where(counted, alpha, 0),
        "gradient": np.where(counted[:, None], slope[:, None] * direction, 0),
        "prediction": np.where(counted, x.argmax(1), -1),
        "squared": squared,
        "entropy_of_others": entropy_of_others,
    } | {name: np.where(counted, values, np.nan) for name, values in scores.items()}


def _times_log(p: Array, log_p: Array) -> Array:
    """p log p, 0 at p = 0."""
    return np.where(p > 0, p * log_p, 0)


def sigmoid_outputs(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Scores in sigmoid mode: means over labels for entropies, the worst label for margins, norms over labels."""
    p = logits.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    worst = p_t.amin(1)
    entropy = torch.distributions.Bernoulli(probs=p).entropy().mean(1)
    ratio = entropy / math.log(2) / worst.clamp(min=1e-6)
    return {
        "cross_entropy": binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1),
        "p_t": worst,
        "log_odds": worst.logit(),
        "logit_margin": worst.logit(),
        "normalized_margin": worst,
        "entropy": entropy,
        "confidence_weighted_entropy": (ratio + 1).log() / ratio,
        "el2n": (p - targets).norm(dim=1),
        "prediction": (p > 0.5).long(),
    }


def softmax_focal(x: Tensor, target: Tensor, gamma: float, weights: Sequence[float], smoothing: float = 0.0) -> Tensor:
    """Equation 5 of the paper for one row, from log-softmax, against a smoothed target if there is one."""
    log_p = x.log_softmax(0)
    y = torch.full_like(x, smoothing / len(x))
    y[target] += 1 - smoothing
    return (y * double(weights) * (1 - log_p.exp()) ** gamma * -log_p).sum()


def sigmoid_focal(x: Tensor, y: Tensor, gamma: float, alpha: Sequence[float]) -> Tensor:
    """The mean over the labels of one row of torchvision's `sigmoid_focal_loss`, with an alpha for each label."""
    p = x.sigmoid()
    p_t = p * y + (1 - p) * (1 - y)
    alpha_t = double(alpha) * y + (1 - double(alpha)) * (1 - y)
    return (alpha_t * (1 - p_t) ** gamma * binary_cross_entropy_with_logits(x, y, reduction="none")).mean()


def differentiate(loss_of_row: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> dict[str, Array]:
    """Loss and gradient of each row, by torch's autograd in float64."""
    losses, gradients = [], []
    for row, target in zip(logits.double(), targets, strict=True):
        x = row.clone().requires_grad_()
        loss = loss_of_row(x, target)
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, x)[0])
    loss, gradient = torch.stack(losses), torch.stack(gradients)
    columns = {"loss": loss, "log_loss": loss.log(), "gradient": gradient, "grad_norm": gradient.norm(dim=1)}
    return {name: values.numpy() for name, values in columns.items()}
