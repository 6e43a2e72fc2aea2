"""Scores of elements from their statistics, where a client has reduced the logits already.

In softmax mode the loss depends on the logits through the log-odds z of the target alone; see `service.loss.formula`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from service.loss.arrays import Array, as_tensor
from service.loss.checks import not_ignored
from service.loss.focal import FocalLoss
from service.loss.formula import cross_entropy_from_log_odds, focal_from_log_odds, log_focal_from_log_odds
from service.loss.row_state import COUNTED, RowState
from service.loss.score_tensors import ScoreTensors
from service.loss.scores import Scores, _masked

# Outputs that follow from the log-odds; the others are statistics themselves.
FROM_LOG_ODDS = ("loss", "contribution", "cross_entropy", "p_t", "log_odds")


@torch.no_grad()
def statistics_scores(
    module: FocalLoss, statistics: Mapping[str, Array], targets: Array, outputs: Sequence[str]
) -> Scores:
    """The scores of elements with one class.

    Args:
        module: The configured loss, in softmax mode without `label_smoothing`.
        statistics: `log_odds`, floats (E,), and those of the outputs that do not follow from them.
        targets: (E,) integers.
        outputs: Names from FROM_LOG_ODDS and from `statistics`.
    """
    z, classes = as_tensor(statistics["log_odds"]).double(), as_tensor(targets).long()
    alpha = None if module.alpha is None else module.alpha.to("cpu")
    state = torch.zeros_like(classes, dtype=torch.int8)
    state[z.isnan() | torch.isneginf(z)] = RowState.BAD_LOGIT
    # Without weights the number of classes is unknown.
    state[(classes < 0) | (classes >= (torch.iinfo(torch.int64).max if alpha is None else len(alpha)))] = (
        RowState.BAD_TARGET
    )
    state[~not_ignored(classes, module.config.ignore_index)] = RowState.IGNORED
    counted = state == COUNTED
    z = z.masked_fill(~counted, 0)
    alpha_t = torch.ones_like(z) if alpha is None else alpha[classes.masked_fill(~counted, 0)]
    values: dict[str, Tensor] = {
        "cross_entropy": cross_entropy_from_log_odds(z),
        "p_t": torch.sigmoid(z),
        **{name: as_tensor(statistics[name]).double() for name in outputs if name not in FROM_LOG_ODDS},
        "log_odds": z,
    }
    if "prediction" in values:
        values["prediction"] = values["prediction"].long()
    loss = alpha_t * focal_from_log_odds(z, module.gamma)
    log_loss = alpha_t.log() + log_focal_from_log_odds(z, module.gamma)
    named = {name: values[name] for name in outputs if name not in ("loss", "contribution")}
    return _masked(ScoreTensors(state, loss, log_loss, alpha_t, named))
