"""Scores of elements that have one of several classes, or a distribution over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from service.loss.checks import not_ignored
from service.loss.focal import FocalLoss
from service.loss.formula import (
    Moments,
    SoftmaxStatistics,
    cross_entropy_from_log_odds,
    focal_from_log_odds,
    focal_slope,
    log_focal_from_log_odds,
)
from service.loss.kernels.choose import softmax_statistics
from service.loss.row_state import COUNTED, RowState
from service.loss.score_tensors import ScoreTensors, confidence_weighted_entropy
from service.loss.soft_labels import (
    LogProbabilities,
    SoftLabels,
    log_probabilities,
    smoothed_labels,
    soft_alpha_t,
    soft_focal,
    soft_gradient_norm,
    soft_labels,
)

NEED_MOMENTS = frozenset({"entropy", "confidence_weighted_entropy", "el2n", "grad_norm"})


@torch.no_grad()
def softmax_scores(module: FocalLoss, logits: Tensor, targets: Tensor, names: Sequence[str]) -> ScoreTensors:
    """The scores by torch.

    Args:
        module: The configured loss.
        logits: (N, C) or (N, C, S).
        targets: (N,) or (N, S) integers.
        names: Further outputs.
    """
    config, alpha, num_classes = module.config, module.alpha, logits.shape[1]
    targets = targets.long()
    state = torch.zeros_like(targets, dtype=torch.int8)
    state[(targets < 0) | (targets >= num_classes)] = RowState.BAD_TARGET
    state[~not_ignored(targets, config.ignore_index)] = RowState.IGNORED
    valid_targets = targets.masked_fill(state != RowState.COUNTED, 0)
    row = softmax_statistics(
        logits, valid_targets, prediction="prediction" in names, moments=not NEED_MOMENTS.isdisjoint(names)
    )
    valid = row.valid & logits.isfinite().all(1) if config.label_smoothing else row.valid
    state[(state == COUNTED) & ~valid] = RowState.BAD_LOGIT

    alpha_t = torch.ones_like(row.logit_margin) if alpha is None else alpha[valid_targets]
    values = softmax_outputs(row, alpha_t, module.gamma, num_classes, names) if names else {}
    if config.label_smoothing:
        classes = log_probabilities(_counted_logits(logits, state))
        share = smoothed_labels(logits, valid_targets, config.label_smoothing)
        loss = soft_focal(classes, share, module.gamma, alpha)
        log_loss = loss.log()
        if "grad_norm" in values:
            values["grad_norm"] = soft_gradient_norm(classes, share, module.gamma, alpha)
    else:
        loss = alpha_t * focal_from_log_odds(row.log_odds, module.gamma)
        log_loss = alpha_t.log() + log_focal_from_log_odds(row.log_odds, module.gamma)
    return ScoreTensors(state, loss, log_loss, alpha_t, values)


@torch.no_grad()
def soft_scores(module: FocalLoss, logits: Tensor, targets: Tensor, names: Sequence[str]) -> ScoreTensors:
    """The scores for soft labels; `p_t`, `log_odds` and the margins are those of the class with the largest share.

    Args:
        module: The configured loss, without label smoothing.
        logits: (N, C) or (N, C, S).
        targets: Floats of the shape of the logits.
        names: Further outputs.
    """
    labels = soft_labels(targets, module.config.ignore_index)
    state = torch.zeros_like(labels.counted, dtype=torch.int8)
    state[~labels.valid] = RowState.BAD_TARGET
    state[~labels.counted] = RowState.IGNORED
    row = softmax_statistics(
        logits, labels.share.argmax(1), prediction="prediction" in names, moments=not NEED_MOMENTS.isdisjoint(names)
    )
    valid = row.valid & ((labels.share == 0) | logits.isfinite()).all(1)
    state[(state == COUNTED) & ~valid] = RowState.BAD_LOGIT
    classes = log_probabilities(_counted_logits(logits, state))
    loss = soft_focal(classes, labels.share, module.gamma, module.alpha)
    alpha_t = soft_alpha_t(labels.share, module.alpha)
    values = softmax_outputs(row, alpha_t, module.gamma, logits.shape[1], names) if names else {}
    values |= {name: value for name, value in _soft_outputs(module, classes, labels).items() if name in values}
    return ScoreTensors(state, loss, loss.log(), alpha_t, values)


def _soft_outputs(module: FocalLoss, classes: LogProbabilities, labels: SoftLabels) -> dict[str, Tensor]:
    """The outputs that depend on the whole distribution."""
    return {
        "cross_entropy": soft_focal(classes, labels.share, 0, None),
        "el2n": torch.linalg.vector_norm(classes.log_p.exp() - labels.share, dim=1),
        "grad_norm": soft_gradient_norm(classes, labels.share, module.gamma, module.alpha),
    }


def _counted_logits(logits: Tensor, state: Tensor) -> Tensor:
    return logits.masked_fill((state != COUNTED).unsqueeze(1), 0)


def softmax_outputs(
    row: SoftmaxStatistics, alpha_t: Tensor, gamma: float, num_classes: int, names: Sequence[str]
) -> dict[str, Tensor]:
    """The requested outputs, from the statistics of elements that have one class."""
    z = row.log_odds
    values = {} if row.moments is None else _moment_outputs(row.moments, z, alpha_t, gamma, num_classes)
    # Computed on request: each is a pass over all elements.
    formulas: dict[str, Callable[[], Tensor | None]] = {
        "cross_entropy": lambda: cross_entropy_from_log_odds(z),
        "p_t": lambda: torch.sigmoid(z),
        "log_odds": lambda: z,
        "prediction": lambda: row.prediction,
        "logit_margin": lambda: row.logit_margin,
        # p_t minus the largest other probability (1 - p_t) / s, shifted to [0, 1] as in cleanlab.
        "normalized_margin": lambda: (torch.sigmoid(z) - torch.sigmoid(-z) * torch.exp(-row.log_others) + 1) / 2,
    }
    for name in names:
        value = formulas[name]() if name in formulas else values[name]
        assert value is not None
        values[name] = value
    return {name: values[name] for name in names}


def _moment_outputs(moments: Moments, z: Tensor, alpha_t: Tensor, gamma: float, num_classes: int) -> dict[str, Tensor]:
    """The outputs that need the moments."""
    p_t, other_p = torch.sigmoid(z), torch.sigmoid(-z)
    spread = (1 + moments.squared).sqrt()
    # The entropy of "t or not t", plus the entropy of the other classes times their probability 1 - p_t. As z tends to
    # infinity, (1 - p_t) z tends to 0 although z does not.
    not_target = torch.where(other_p > 0, other_p * -logsigmoid(-z), 0)
    entropy = torch.where(p_t > 0, p_t * -logsigmoid(z), 0) + not_target + other_p * moments.entropy
    return {
        "entropy": entropy,
        "confidence_weighted_entropy": confidence_weighted_entropy(entropy, p_t, num_classes),
        "el2n": other_p * spread,
        "grad_norm": alpha_t * focal_slope(z, gamma) * spread,
    }
