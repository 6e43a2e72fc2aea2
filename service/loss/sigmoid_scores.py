"""Scores of independent labels; each label is an element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from service.loss.checks import not_ignored
from service.loss.focal import FocalLoss
from service.loss.formula import Logistic
from service.loss.row_state import COUNTED, RowState
from service.loss.score_tensors import ScoreTensors, confidence_weighted_entropy
from service.loss.sigmoid import (
    Focus,
    log_sigmoid_focal,
    sigmoid_cross_entropy,
    sigmoid_focal,
    sigmoid_log_odds,
    sigmoid_slope,
)


@torch.no_grad()
def sigmoid_scores(
    module: FocalLoss, logits: Tensor, targets: Tensor, alpha: Tensor | None, names: Sequence[str]
) -> ScoreTensors:
    """The scores by torch.

    `p_t`, `log_odds` and the margins are those of the logits, also if the loss lowers the probability of negatives.

    Args:
        module: The configured loss.
        logits: Any shape.
        targets: Numbers, the same shape.
        alpha: Weights of positives, of one label or of the same shape; or None for all weights 1.
        names: Further outputs.
    """
    present = not_ignored(targets, module.config.ignore_index)
    x, y = logits.double(), targets.double()
    bad_target = present & ~((y >= 0) & (y <= 1))
    y = y.masked_fill(~present | bad_target, 0)
    state = torch.zeros_like(present, dtype=torch.int8)
    state[x.isnan() | (x == torch.inf) | (torch.isneginf(x) & (y > 0))] = RowState.BAD_LOGIT
    state[bad_target] = RowState.BAD_TARGET
    state[~present] = RowState.IGNORED
    x = x.masked_fill(state != COUNTED, 0)
    focus = Focus.of(module.config)
    z, ce = sigmoid_log_odds(x, y), sigmoid_cross_entropy(x, y)
    loss, alpha_t = sigmoid_focal(x, y, focus, alpha, z, ce)
    log_loss = log_sigmoid_focal(x, y, focus, alpha, z, ce)
    of, of_target = Logistic(x), Logistic(z)
    # Each is a pass over all elements, so only those that are requested are computed.
    formulas: dict[str, Callable[[], Tensor]] = {
        "cross_entropy": lambda: ce,
        "p_t": lambda: of_target.p,
        "log_odds": lambda: z,
        "prediction": lambda: (x > 0).to(torch.int64),
        "logit_margin": lambda: z,
        "normalized_margin": lambda: of_target.p,
        "entropy": lambda: of.entropy,
        "confidence_weighted_entropy": lambda: confidence_weighted_entropy(of.entropy, of_target.p, 2),
        "el2n": lambda: torch.abs((1 - y) * of.p - y * of.q),
        "grad_norm": lambda: torch.abs(sigmoid_slope(x, y, focus, alpha, z, ce)),
    }
    return ScoreTensors(state, loss, log_loss, alpha_t, {name: formulas[name]() for name in names})
