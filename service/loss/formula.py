"""The focal loss from one number per element, the log-odds z = log(p_t / (1 - p_t)).

One function computes z from logits and targets, another the loss from z. Together they are the plain implementation
that every faster one is tested against. With CE = softplus(-z) and log(1 - p_t) = -softplus(z), equation 5 of Lin et
al. 2017 becomes FL = alpha_t exp(-gamma softplus(z)) softplus(-z). It has no `1 - exp(-ce)`, which rounds easy rows to
zero, and no power of 1 - p_t, whose gradient is NaN for gamma < 1.

The pass over all logits runs in float32 (float64 for float64 logits). The few numbers that remain of each element are
float64: that costs as much as one more class, and the relative error of the loss stays near that of the sum of
exponentials for every gamma.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Moments(NamedTuple):
    """Moments of pi_j = exp(x_j - M) / s, the softmax over j != t, for scores beyond the loss; float64.

    Args:
        squared: Sum of pi_j^2.
        entropy: Entropy of pi in nats.
    """

    squared: Tensor
    entropy: Tensor


class SoftmaxStatistics(NamedTuple):
    """The numbers that one pass over the logits gives for each element, each of the shape of the targets.

    x_t is the target's logit, M the largest other one.

    Args:
        logit_margin: float64, x_t - M; +inf where every other class is masked with -inf.
        log_others: float64, log s with s = sum over j != t of exp(x_j - M).
        valid: bool, False where a logit is NaN or +inf, the target's is -inf, or their difference overflows.
        prediction: int64, the smallest index of the largest logit; None unless requested.
        moments: None unless requested.
    """

    logit_margin: Tensor
    log_others: Tensor
    valid: Tensor
    prediction: Tensor | None
    moments: Moments | None

    @property
    def log_odds(self) -> Tensor:
        """z = (x_t - M) - log s; never log-sum-exp minus x_t, which loses the gap under a shared offset."""
        return self.logit_margin - self.log_others

    def part(self, rows: slice) -> SoftmaxStatistics:
        """The statistics of some rows."""
        moments = None if self.moments is None else Moments(*(values[rows] for values in self.moments))
        prediction = None if self.prediction is None else self.prediction[rows]
        return SoftmaxStatistics(self.logit_margin[rows], self.log_others[rows], self.valid[rows], prediction, moments)


def compute_dtype(logits: Tensor) -> torch.dtype:
    """Dtype of the pass over all logits: float32, or float64 for float64 logits."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """Reduce the logits of each element to the numbers from which all scores follow.

    Args:
        logits: (N, C) or (N, C, d1, ...) of any floating dtype, C >= 2.
        targets: (N,) or (N, d1, ...) int64 in [0, C).
        prediction: Also find the predicted class, which takes a second pass.
        moments: Also compute the moments for entropy, EL2N and the gradient norm.
    """
    index = targets.unsqueeze(1)
    logits = logits.to(compute_dtype(logits))
    target_logit = logits.gather(1, index).squeeze(1).double()
    others = logits.scatter(1, index, -torch.inf)
    largest = others.detach().amax(1)
    predicted = predicted_class(others.argmax(1), largest, targets, target_logit) if prediction else None
    masked = largest == -torch.inf  # ONNX has no isneginf
    # M is a constant for the gradient, since it cancels from z.
    shift = largest.masked_fill(masked, 0).unsqueeze(1)
    # In place if no gradient needs the old values: half the time, and no second copy of the logits.
    weights = (others - shift).exp() if others.requires_grad else others.sub_(shift).exp_()
    total = weights.sum(1).double().masked_fill(masked, 1)
    margin = torch.where(masked, torch.inf, target_logit - largest)
    return SoftmaxStatistics(
        logit_margin=margin,
        log_others=total.log(),
        valid=target_logit.isfinite() & (largest < torch.inf) & (masked | margin.isfinite()),
        prediction=predicted,
        moments=_moments(weights.detach(), total.detach()) if moments else None,
    )


def predicted_class(position: Tensor, largest: Tensor, targets: Tensor, target_logit: Tensor) -> Tensor:
    """The smallest class with the largest logit, from the first `position` of the `largest` logit of the others."""
    first_of_ties = (target_logit == largest) & (targets < position)
    return torch.where((target_logit > largest) | first_of_ties, targets, position)


def _moments(weights: Tensor, total: Tensor) -> Moments:
    # xlogy(w, w) is w log w, and 0 at w = 0.
    entropy = total.log() - torch.xlogy(weights, weights).sum(1).double() / total
    return Moments(weights.square().sum(1).double() / total.square(), entropy.clamp(min=0))


def cross_entropy_from_log_odds(log_odds: Tensor) -> Tensor:
    """-log p_t = softplus(-z)."""
    # 0 minus the logarithm, so that an easy row has loss 0: a negation would give -0, visible in JSON.
    return 0 - logsigmoid(log_odds)


def focal_from_log_odds(log_odds: Tensor, gamma: float, cross_entropy: Tensor | None = None) -> Tensor:
    """FL / alpha_t = exp(-gamma softplus(z)) CE, with CE = softplus(-z) unless the caller passes it, for soft targets.

    Gradients are finite for every gamma >= 0, also at p_t -> 1.
    """
    if cross_entropy is None:
        cross_entropy = cross_entropy_from_log_odds(log_odds)
    if gamma == 0:
        return cross_entropy
    return torch.exp(gamma * logsigmoid(-log_odds)) * cross_entropy


def log_focal_from_log_odds(log_odds: Tensor, gamma: float) -> Tensor:
    """log(FL / alpha_t), which orders easy examples even if their loss underflows."""
    cross_entropy = -logsigmoid(log_odds)
    # In float64 softplus(-z) equals exp(-z) for z > 37, and is 0 for z > 745.
    log_cross_entropy = torch.where(log_odds > 37, -log_odds, cross_entropy.log())
    return log_cross_entropy if gamma == 0 else gamma * logsigmoid(-log_odds) + log_cross_entropy


class Logistic:
    """The logistic functions of log-odds z, each computed when it is first needed.

    Attributes:
        z: float64, any shape, as the others.
        p: sigmoid(z).
        q: sigmoid(-z), which is 1 - p.
        log_p: Logarithm of p.
        log_q: Logarithm of q.
        entropy: Entropy of p and q, in nats.
    """

    def __init__(self, z: Tensor) -> None:
        self.z = z

    @cached_property
    def p(self) -> Tensor:
        return torch.sigmoid(self.z)

    @cached_property
    def q(self) -> Tensor:
        return torch.sigmoid(-self.z)

    @cached_property
    def log_p(self) -> Tensor:
        return logsigmoid(self.z)

    @cached_property
    def log_q(self) -> Tensor:
        return logsigmoid(-self.z)

    @cached_property
    def entropy(self) -> Tensor:
        # As z tends to infinity, q log q tends to 0 although log q does not.
        return torch.where(self.p > 0, self.p * -self.log_p, 0) + torch.where(self.q > 0, self.q * -self.log_q, 0)


def focal_slope(of: Logistic, gamma: float) -> Tensor:
    """-d(FL / alpha_t) / dz = exp(-gamma softplus(z)) (gamma sigmoid(z) softplus(-z) + sigmoid(-z)) >= 0."""
    if gamma == 0:
        return of.q
    focusing = gamma * of.p * -of.log_p
    return torch.exp(gamma * of.log_q) * (focusing + of.q)
