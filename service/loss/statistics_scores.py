"""Scores of elements from their statistics, where a client has reduced the logits already.

In softmax mode the loss depends on the logits through the log-odds z of the target alone; see `service.loss.formula`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from service.loss.arrays import Array, as_tensor
from service.loss.checks import not_ignored
from service.loss.focal import FocalLoss
from service.loss.formula import (
    Logistic,
    cross_entropy_from_log_odds,
    focal_from_log_odds,
    focal_slope,
    log_focal_from_log_odds,
)
from service.loss.row_state import COUNTED, RowState
from service.loss.score_tensors import ScoreTensors, confidence_weighted_entropy
from service.loss.scores import Scores
from service.schema.request import FROM_STATISTIC, MAX_NUM_CLASSES

# Outputs that follow from the log-odds.
FROM_LOG_ODDS = ("loss", "contribution", "cross_entropy", "p_t", "log_odds")


def follows(output: str, statistics: Collection[str], num_classes: int | None) -> bool:
    """True if an output of the elements follows from these statistics; `num_classes` is None if unknown."""
    if output == "confidence_weighted_entropy" and num_classes is None:
        return False
    return output in FROM_LOG_ODDS or output in statistics or FROM_STATISTIC.get(output) in statistics


def invalid_values(name: str, values: Tensor, num_classes: int | None) -> Tensor:
    """True where a statistic cannot be one of an element that counts; `num_classes` is None if unknown."""
    if name == "log_odds":
        return values.isnan() | values.isneginf()
    if name == "prediction":
        beyond = values >= (MAX_NUM_CLASSES if num_classes is None else num_classes)
        return (values < 0) | beyond | (values != values.floor())
    # Without a finite other logit the margin is infinite.
    return values.isnan() if name == "logit_margin" else ~values.isfinite()


@torch.no_grad()
def statistics_scores(
    module: FocalLoss,
    statistics: Mapping[str, Array],
    targets: Array,
    outputs: Sequence[str],
    num_classes: int | None = None,
) -> Scores:
    """The scores of elements with one class.

    Args:
        module: The configured loss, in softmax mode without `label_smoothing`.
        statistics: `log_odds` and others, numbers (E,).
        targets: (E,) integers.
        outputs: Names that follow from the statistics; see `follows`.
        num_classes: Number of classes; None if unknown.
    """
    classes = as_tensor(targets).long()
    alpha = None if module.alpha is None else module.alpha.to("cpu")
    wanted = {"log_odds", *(name if name in statistics else FROM_STATISTIC.get(name, "log_odds") for name in outputs)}
    sent = {name: as_tensor(statistics[name]).double() for name in wanted}
    state = _states(module, sent, classes, num_classes)
    counted = state == COUNTED
    z = sent["log_odds"].masked_fill(~counted, 0)
    of = Logistic(z)
    alpha_t = torch.ones_like(z) if alpha is None else alpha[classes.masked_fill(~counted, 0)]
    formulas: dict[str, Callable[[], Tensor]] = {
        "cross_entropy": lambda: cross_entropy_from_log_odds(z),
        "p_t": lambda: of.p,
        "log_odds": lambda: z,
        "prediction": lambda: sent["prediction"].masked_fill(~counted, 0).long(),
        "normalized_margin": lambda: _normalized_margin(of, sent["logit_margin"]),
        "confidence_weighted_entropy": lambda: confidence_weighted_entropy(sent["entropy"], of.p, num_classes or 2),
        "grad_norm": lambda: alpha_t * focal_slope(of, module.gamma) * _spread(of, sent["el2n"]),
    }
    loss = alpha_t * focal_from_log_odds(z, module.gamma)
    log_loss = alpha_t.log() + log_focal_from_log_odds(z, module.gamma)
    named = {
        name: sent[name] if name in sent and name not in ("log_odds", "prediction") else formulas[name]()
        for name in outputs
        if name not in ("loss", "contribution")
    }
    return Scores.of(ScoreTensors(state, loss, log_loss, alpha_t, named))


def _states(module: FocalLoss, statistics: Mapping[str, Tensor], classes: Tensor, num_classes: int | None) -> Tensor:
    """The state of each element, int8 `RowState`."""
    state = torch.zeros_like(classes, dtype=torch.int8)
    for name, values in statistics.items():
        state[invalid_values(name, values, num_classes)] = RowState.BAD_LOGIT
    state[(classes < 0) | (classes >= (MAX_NUM_CLASSES if num_classes is None else num_classes))] = RowState.BAD_TARGET
    state[~not_ignored(classes, module.config.ignore_index)] = RowState.IGNORED
    return state


def _normalized_margin(of: Logistic, logit_margin: Tensor) -> Tensor:
    """(p_t - p + 1) / 2, where the largest other probability p is p_t exp(-logit_margin)."""
    return (of.p - torch.exp(of.log_p - logit_margin) + 1) / 2


def _spread(of: Logistic, el2n: Tensor) -> Tensor:
    """The norm of the gradient of z: EL2N / (1 - p_t), in [1, sqrt(2)]; 1 where both are 0."""
    return (el2n / of.q).nan_to_num(1.0).clamp(1.0, math.sqrt(2))
