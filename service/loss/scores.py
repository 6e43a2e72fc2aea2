"""All scores of every element, from one pass over the logits; without gradients.

`score` takes a chunk of elements on the instance's device. It raises no errors for bad values: it marks those elements,
so that the caller can name them or leave out their examples, and masks their scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from service.loss.arrays import Array, Rows, as_tensor
from service.loss.checks import is_soft
from service.loss.focal import FocalLoss
from service.loss.formula import SoftmaxStatistics
from service.loss.kernels import cpu as fused_cpu
from service.loss.row_state import COUNTED
from service.loss.score_tensors import ScoreTensors
from service.loss.sigmoid_scores import sigmoid_scores
from service.loss.softmax_outputs import NEED_MOMENTS, softmax_outputs
from service.loss.softmax_scores import soft_scores, softmax_scores

# Elements that torch computes at once, on one thread.
ELEMENTS_AT_ONCE = 2**14
# A label takes about as long as this many logits of the fused kernel.
LOGITS_PER_LABEL = 32


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of E elements, on the host, flat in the order of the targets; softmax N * S, sigmoid N * L * S.

    Scores from CUDA are complete after the stream is synchronised.

    Args:
        state: (E,) int8 `RowState`.
        loss: (E,) float64, unreduced; 0 in elements that do not count.
        log_loss: (E,) float64, logarithm of the loss, which does not underflow (for soft labels it may); -inf in
            elements that do not count.
        alpha_t: (E,) float64; 0 in elements that do not count.
        outputs: (E,) float64 for each further output, NaN in elements that do not count; but `prediction` is int64, -1
            in elements that do not count.
    """

    state: Array
    loss: Array
    log_loss: Array
    alpha_t: Array
    outputs: dict[str, Array]

    @classmethod
    def of(cls, tensors: ScoreTensors) -> Scores:
        """The scores on the host, without those of elements that do not count."""
        state, loss, log_loss, alpha_t, outputs = tensors
        counted = state == COUNTED
        return cls(
            state=_on_host(state),
            loss=_on_host(torch.where(counted, loss, 0)),
            log_loss=_on_host(torch.where(counted, log_loss, -torch.inf)),
            alpha_t=_on_host(torch.where(counted, alpha_t, 0)),
            outputs={
                name: _on_host(torch.where(counted, value, -1 if name == "prediction" else torch.nan))
                for name, value in outputs.items()
            },
        )

    def put(self, part: slice, scores: Scores) -> None:
        """Store the scores of a part of the elements."""
        for name in ("state", "loss", "log_loss", "alpha_t"):
            getattr(self, name)[part] = getattr(scores, name)
        for name, values in self.outputs.items():
            values[part] = scores.outputs[name]


def score(module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
    """The scores of the elements of a chunk.

    Args:
        module: The configured loss.
        logits: Softmax (N, C) or (N, C, S), sigmoid (N, L) or (N, L, S); any floating dtype; tensors on the module's
            device.
        targets: Softmax (N,) or (N, S) integers, or soft labels, floats of the shape of the logits; sigmoid any
            numbers, the shape of the logits.
        outputs: Names from `service.schema.request.ELEMENT_OUTPUTS`; `loss` and `contribution` are skipped, as they
            follow from `Scores.loss`.
    """
    names = [name for name in outputs if name not in ("loss", "contribution")]
    if is_fused(module, logits, targets):
        return _score_fused(module, logits, targets, names)
    if module.config.mode == "sigmoid":
        return _score_labels(module, logits, targets, names)
    x, y = as_tensor(logits), as_tensor(targets)
    return Scores.of((soft_scores if is_soft(x, y) else softmax_scores)(module, x, y, names))


def is_fused(module: FocalLoss, logits: Rows, targets: Rows) -> bool:
    """True if `score` needs no memory that grows with the number of classes."""
    return (
        module.config.mode == "softmax"
        and not module.config.label_smoothing
        and targets.ndim < logits.ndim
        and fused_cpu.supports(logits)
    )


def is_bounded(module: FocalLoss, logits: Rows, targets: Rows) -> bool:
    """True if `score` needs little memory on the CPU beside its result, for any number of elements and classes."""
    return module.config.mode == "sigmoid" or is_fused(module, logits, targets)


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
    outputs = {}
    if rows.statistics is not None:
        outputs = _fused_outputs(module, rows.statistics, torch.from_numpy(rows.alpha_t), logits.shape[1], names)
    if np.count_nonzero(rows.state != COUNTED):
        not_counted = rows.state != COUNTED
        for values, null in ((rows.loss, 0), (rows.log_loss, -np.inf), (rows.alpha_t, 0)):
            np.copyto(values, null, where=not_counted)
        for name, values in outputs.items():
            np.copyto(values, -1 if name == "prediction" else np.nan, where=not_counted)
    return Scores(rows.state, rows.loss, rows.log_loss, rows.alpha_t, outputs)


def _fused_outputs(
    module: FocalLoss, statistics: SoftmaxStatistics, alpha_t: Tensor, num_classes: int, names: list[str]
) -> dict[str, Array]:
    """The further outputs of a chunk on the CPU.

    In parts that stay in cache, on the kernel's threads: torch's threads would wait for each other after each
    operation.
    """
    count = len(alpha_t)
    if count <= ELEMENTS_AT_ONCE:
        values = softmax_outputs(statistics, alpha_t, module.gamma, num_classes, names)
        return {name: value.numpy() for name, value in values.items()}
    outputs = _empty_outputs(names, count)

    def work(part: slice) -> None:
        values = softmax_outputs(statistics.part(part), alpha_t[part], module.gamma, num_classes, names)
        for name, value in values.items():
            outputs[name][part] = value.numpy()

    _in_parts(work, count, count * num_classes)
    return outputs


def _score_labels(module: FocalLoss, logits: Rows, targets: Rows, names: list[str]) -> Scores:
    """The scores of independent labels; on the CPU in parts, since torch takes about 20 floats for each label."""
    flat, count = (logits.reshape(-1), targets.reshape(-1)), math.prod(logits.shape)
    labels, places = logits.shape[1], math.prod(logits.shape[2:])

    def score_part(part: slice) -> Scores:
        x, y = (as_tensor(values[part]) for values in flat)
        alpha = module.alpha
        if alpha is not None and len(alpha) > 1:
            alpha = alpha[torch.arange(part.start, part.stop, device=alpha.device) // places % labels]
        return Scores.of(sigmoid_scores(module, x, y, alpha, names))

    if count <= ELEMENTS_AT_ONCE or module.device != "cpu":
        return score_part(slice(0, count))
    scores = Scores(
        np.empty(count, np.int8), np.empty(count), np.empty(count), np.empty(count), _empty_outputs(names, count)
    )
    _in_parts(lambda part: scores.put(part, score_part(part)), count, count * LOGITS_PER_LABEL)
    return scores


def _empty_outputs(names: Sequence[str], count: int) -> dict[str, Array]:
    return {name: np.empty(count, np.int64 if name == "prediction" else np.float64) for name in names}


def _in_parts(work: Callable[[slice], None], count: int, num_logits: int) -> None:
    """Call `work` for parts of the elements, over the threads of the kernel.

    Args:
        work: Computes a part.
        count: Number of elements.
        num_logits: Logits of the kernel that take as long as all elements.
    """

    def run(start: int, stop: int) -> None:
        for first in range(start, stop, ELEMENTS_AT_ONCE):
            work(slice(first, min(stop, first + ELEMENTS_AT_ONCE)))

    fused_cpu.over_threads(run, count, num_logits)


def _on_host(tensor: Tensor) -> Array:
    # With non_blocking torch copies into pinned memory.
    return tensor.reshape(-1).to("cpu", non_blocking=True).numpy()
