"""All scores of every example, from one pass over the logits; without gradients.

`score` takes a chunk of rows on the instance's device. It raises no errors for bad values: it marks those rows, so that
the caller can name them or leave them out, and masks their scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from service.loss.arrays import Array, Rows, as_tensor
from service.loss.focal import FocalLoss, not_ignored, sigmoid_alpha_t
from service.loss.formula import (
    SoftmaxStatistics,
    cross_entropy_from_log_odds,
    focal_from_log_odds,
    focal_slope,
    log_focal_from_log_odds,
    sigmoid_cross_entropy,
    sigmoid_log_odds,
    smoothed_focal,
)
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels.choose import softmax_statistics
from service.loss.row_state import COUNTED, RowState

NEED_MOMENTS = frozenset({"entropy", "confidence_weighted_entropy", "el2n", "grad_norm"})


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of each row of a chunk, on the host. Scores from CUDA are complete after the stream is synchronised.

    Args:
        state: (N,) int8 `RowState`.
        loss: (N,) float64, unreduced; 0 in rows that do not count.
        log_loss: (N,) float64, logarithm of the loss, which does not underflow; -inf in rows that do not count.
        alpha_t: (N,) float64; 0 in rows that do not count.
        outputs: (N,) float64 for each further output, NaN in rows that do not count; but `prediction` is int64, -1 in
            rows that do not count, and (N, L) in sigmoid mode with L > 1.
    """

    state: Array
    loss: Array
    log_loss: Array
    alpha_t: Array
    outputs: dict[str, Array]


def score(module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
    """The scores of a chunk of rows.

    Args:
        module: The configured loss.
        logits: Softmax (N, C), sigmoid (N, L); any floating dtype; tensors on the module's device.
        targets: Softmax (N,) integers; sigmoid (N, L), any number.
        outputs: Names from `service.schema.request.OUTPUTS`; `loss` and `contribution` are skipped, as they follow from
            `Scores.loss`.
    """
    names = [name for name in outputs if name not in ("loss", "contribution")]
    if is_fused(module, logits):
        return _score_fused(module, logits, targets, names)
    score_by_torch = _score_softmax if module.config.mode == "softmax" else _score_sigmoid
    return score_by_torch(module, as_tensor(logits), as_tensor(targets), names)


def is_fused(module: FocalLoss, logits: Rows) -> bool:
    """True if `score` needs no memory that grows with the number of classes."""
    return module.config.mode == "softmax" and not module.config.label_smoothing and fused_cpu.supports(logits)


def _score_fused(module: FocalLoss, logits: Rows, targets: Rows, names: list[str]) -> Scores:
    rows = fused_cpu.score_rows(
        logits,
        targets,
        module.gamma,
        module.alpha,
        module.config.ignore_index,
        log_loss=True,
        statistics=bool(names),
        prediction="prediction" in names,
        moments=not NEED_MOMENTS.isdisjoint(names),
    )
    values = {}
    if rows.statistics is not None:
        alpha_t = torch.from_numpy(rows.alpha_t)
        values = _softmax_outputs(rows.statistics, alpha_t, module.gamma, logits.shape[1], names)
    if not np.count_nonzero(rows.state != COUNTED):
        outputs = {name: value.numpy() for name, value in values.items()}
        return Scores(rows.state, rows.loss, rows.log_loss, rows.alpha_t, outputs)
    state, loss, log_loss, alpha_t = map(torch.from_numpy, (rows.state, rows.loss, rows.log_loss, rows.alpha_t))
    return _masked(state == COUNTED, state, loss, log_loss, alpha_t, values)


@torch.no_grad()
def _score_softmax(module: FocalLoss, logits: Tensor, targets: Tensor, names: list[str]) -> Scores:
    config, alpha, num_classes = module.config, module.alpha, logits.shape[1]
    targets = targets.long()
    state = torch.zeros(len(targets), dtype=torch.int8, device=targets.device)
    state[(targets < 0) | (targets >= num_classes)] = RowState.BAD_TARGET
    state[~not_ignored(targets, config.ignore_index)] = RowState.IGNORED
    valid_targets = targets.masked_fill(state != RowState.COUNTED, 0)
    row = softmax_statistics(
        logits, valid_targets, prediction="prediction" in names, moments=not NEED_MOMENTS.isdisjoint(names)
    )
    valid = row.valid & logits.isfinite().all(1) if config.label_smoothing else row.valid
    state[(state == RowState.COUNTED) & ~valid] = RowState.BAD_LOGIT
    counted = state == RowState.COUNTED

    alpha_t = torch.ones_like(row.logit_margin) if alpha is None else alpha[valid_targets]
    grad_norm = None
    if config.label_smoothing:
        safe = logits.masked_fill(~counted.unsqueeze(1), 0)
        smoothed = smoothed_focal(safe, valid_targets, module.gamma, config.label_smoothing, alpha)
        loss, log_loss, grad_norm = smoothed.loss, smoothed.loss.log(), smoothed.grad_norm
    else:
        loss = alpha_t * focal_from_log_odds(row.log_odds, module.gamma)
        log_loss = alpha_t.log() + log_focal_from_log_odds(row.log_odds, module.gamma)
    values = _softmax_outputs(row, alpha_t, module.gamma, num_classes, names) if names else {}
    if grad_norm is not None and "grad_norm" in values:
        values["grad_norm"] = grad_norm
    return _masked(counted, state, loss, log_loss, alpha_t, values)


def _softmax_outputs(
    row: SoftmaxStatistics, alpha_t: Tensor, gamma: float, num_classes: int, names: list[str]
) -> dict[str, Tensor]:
    z = row.log_odds
    p_t, other_p = torch.sigmoid(z), torch.sigmoid(-z)
    values: dict[str, Tensor] = {}
    if row.moments is not None:
        spread = (1 + row.moments.squared).sqrt()
        # The entropy of "t or not t", plus the entropy of the other classes times their probability 1 - p_t. As z tends
        # to infinity, (1 - p_t) z tends to 0 although z does not.
        not_target = torch.where(other_p > 0, other_p * -logsigmoid(-z), 0)
        entropy = torch.where(p_t > 0, p_t * -logsigmoid(z), 0) + not_target + other_p * row.moments.entropy
        values["entropy"] = entropy
        values["confidence_weighted_entropy"] = _confidence_weighted_entropy(entropy, p_t, num_classes)
        values["el2n"] = other_p * spread
        values["grad_norm"] = alpha_t * focal_slope(z, gamma) * spread
    values["cross_entropy"] = cross_entropy_from_log_odds(z)
    values["p_t"] = p_t
    values["log_odds"] = z
    if row.prediction is not None:
        values["prediction"] = row.prediction
    values["logit_margin"] = row.logit_margin
    # p_t minus the largest other probability (1 - p_t) / s, shifted to [0, 1] as in cleanlab.
    values["normalized_margin"] = (p_t - other_p * torch.exp(-row.log_others) + 1) / 2
    return {name: values[name] for name in names}


def _confidence_weighted_entropy(entropy: Tensor, p_t: Tensor, num_classes: int) -> Tensor:
    """cleanlab's label-quality score (cleanlab/rank.py): log(r + 1) / r with r = normalised entropy / p_t."""
    smallest = 1e-6
    ratio = entropy / math.log(num_classes) / p_t.clamp(min=smallest)
    return torch.log1p(ratio) / ratio.clamp(min=smallest)


@torch.no_grad()
def _score_sigmoid(module: FocalLoss, logits: Tensor, targets: Tensor, names: list[str]) -> Scores:
    """Scores of examples with independent labels.

    Losses, alpha_t, cross-entropies and entropies are means over the labels of an example. Margins, log-odds and p_t
    are those of its worst label. `el2n` and `grad_norm` are norms over its labels.
    """
    present = not_ignored(targets, module.config.ignore_index)
    x, y = logits.double(), targets.double()
    bad_target = present & ~((y >= 0) & (y <= 1))
    y = y.masked_fill(~present | bad_target, 0)
    bad_logit = present & (x.isnan() | (x == torch.inf) | (torch.isneginf(x) & (y > 0)))
    state = torch.zeros(len(targets), dtype=torch.int8, device=targets.device)
    state[bad_logit.any(1)] = RowState.BAD_LOGIT
    state[bad_target.any(1)] = RowState.BAD_TARGET
    state[~present.any(1)] = RowState.IGNORED
    counted = state == RowState.COUNTED
    x = x.masked_fill(~present | ~counted.unsqueeze(1), 0)

    labels = present.sum(1).clamp(min=1).double()

    def mean(values: Tensor) -> Tensor:
        return values.masked_fill(~present, 0).sum(1) / labels

    z, label_ce, label_alpha = sigmoid_log_odds(x, y), sigmoid_cross_entropy(x, y), sigmoid_alpha_t(y, module.alpha)
    alpha_t, loss = mean(label_alpha), mean(focal_from_log_odds(z, module.gamma, label_ce) * label_alpha)
    hard = (y == 0) | (y == 1)
    log_soft = label_ce.log() + module.gamma * logsigmoid(-z)
    label_log = label_alpha.log() + torch.where(hard, log_focal_from_log_odds(z, module.gamma), log_soft)
    log_loss = label_log.masked_fill(~present, -torch.inf).logsumexp(1) - labels.log()

    if not names:
        return _masked(counted, state, loss, log_loss, alpha_t, {})
    worst = z.masked_fill(~present, torch.inf).amin(1)
    p, q = torch.sigmoid(x), torch.sigmoid(-x)
    error = (1 - y) * p - y * q
    entropy = torch.where(p > 0, -p * logsigmoid(x), 0) + torch.where(q > 0, -q * logsigmoid(-x), 0)
    mean_entropy = mean(entropy)
    values = {
        "cross_entropy": mean(label_ce),
        "p_t": torch.sigmoid(worst),
        "log_odds": worst,
        "prediction": (x > 0).long().masked_fill(~present, -1),
        "logit_margin": worst,
        "normalized_margin": torch.sigmoid(worst),
        "entropy": mean_entropy,
        "confidence_weighted_entropy": _confidence_weighted_entropy(mean_entropy, torch.sigmoid(worst), 2),
        "el2n": error.masked_fill(~present, 0).norm(dim=1),
        "grad_norm": _sigmoid_slope(x, y, z, label_ce, module.gamma, label_alpha).masked_fill(~present, 0).norm(dim=1)
        / labels,
    }
    if logits.shape[1] == 1:
        values["prediction"] = values["prediction"].squeeze(1)
    return _masked(counted, state, loss, log_loss, alpha_t, {name: values[name] for name in names})


def _sigmoid_slope(x: Tensor, y: Tensor, z: Tensor, ce: Tensor, gamma: float, alpha_t: Tensor) -> Tensor:
    """dFL/dx of each label, with m = 1 - p_t = y (1 - p) + (1 - y) p:
    alpha_t m^gamma ((p - y) + gamma (1 - 2y) CE p (1 - p) / m)."""
    log_m = logsigmoid(-z)
    difference = (1 - y) * torch.sigmoid(x) - y * torch.sigmoid(-x)
    # p (1 - p) / m equals p_t for a hard label, also where numerator and denominator underflow.
    soft_ratio = torch.exp(logsigmoid(x) + logsigmoid(-x) - log_m)
    ratio = torch.where((y == 0) | (y == 1), torch.sigmoid(z), soft_ratio)
    factor = torch.exp(gamma * log_m) if gamma else torch.ones_like(x)
    return alpha_t * factor * (difference + gamma * (1 - 2 * y) * ce * ratio)


def _masked(
    counted: Tensor, state: Tensor, loss: Tensor, log_loss: Tensor, alpha_t: Tensor, values: dict[str, Tensor]
) -> Scores:
    outputs = {}
    for name, value in values.items():
        mask = counted if value.dim() == 1 else counted.unsqueeze(1)
        outputs[name] = _on_host(torch.where(mask, value, -1 if name == "prediction" else torch.nan))
    return Scores(
        state=_on_host(state),
        loss=_on_host(torch.where(counted, loss, 0)),
        log_loss=_on_host(torch.where(counted, log_loss, -torch.inf)),
        alpha_t=_on_host(torch.where(counted, alpha_t, 0)),
        outputs=outputs,
    )


def _on_host(tensor: Tensor) -> Array:
    # With non_blocking torch copies into pinned memory.
    return tensor.to("cpu", non_blocking=True).numpy()
