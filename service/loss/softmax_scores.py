"""Scores of elements that have one of several classes, or a distribution over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from service.loss.checks import not_ignored
from service.loss.focal import FocalLoss
from service.loss.formula import focal_from_log_odds, log_focal_from_log_odds
from service.loss.kernels.choose import softmax_statistics
from service.loss.row_state import COUNTED, RowState
from service.loss.score_tensors import ScoreTensors
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
from service.loss.softmax_outputs import NEED_MOMENTS, softmax_outputs


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
