"""`softmax_statistics` by the fastest implementation that the tensors and the machine allow."""

from __future__ import annotations

from threading import Event

import structlog
import torch
from torch import Tensor

from service.loss import formula
from service.loss.formula import SoftmaxStatistics

log = structlog.get_logger("service.loss")

_no_kernel = Event()


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """See `service.loss.formula.softmax_statistics`, which is taken where a gradient is needed."""
    if logits.is_cuda and not needs_gradient(logits):
        row = _by_triton(logits, targets, prediction=prediction, moments=moments)
        if row is not None:
            return row
    return formula.softmax_statistics(logits, targets, prediction=prediction, moments=moments)


def needs_gradient(tensor: Tensor) -> bool:
    """Whether autograd records what is done with the tensor."""
    return tensor.requires_grad and torch.is_grad_enabled()


def _by_triton(logits: Tensor, targets: Tensor, *, prediction: bool, moments: bool) -> SoftmaxStatistics | None:
    """None where Triton cannot build or start the kernel; that is said once and not tried again."""
    if _no_kernel.is_set():
        return None
    try:
        from service.loss.kernels import cuda as fused_cuda

        return fused_cuda.softmax_statistics(logits, targets, prediction=prediction, moments=moments)
    except Exception as err:
        # Triton has no one class for its faults: a missing package, compiler or driver library, a cache that cannot
        # be written or executed from, a device it does not know.
        if isinstance(err, MemoryError) or "out of memory" in str(err):
            raise
        if not _no_kernel.is_set():
            _no_kernel.set()
            log.warning("no fused kernel, the plain implementation is used", error=f"{type(err).__name__}: {err}")
        return None
