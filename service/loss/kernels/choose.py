"""Choice of the implementation of `softmax_statistics`: Triton on CUDA, else plain torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from threading import Event

import structlog
import torch
from torch import Tensor

from service.loss import formula
from service.loss.formula import SoftmaxStatistics
from service.loss.kernels.self_check import KernelCheck, check_triton

log = structlog.get_logger("service.loss")

_no_kernel = Event()
# Device, kernel and dtype of each kernel that failed its self-check.
_failed: set[tuple[torch.device, str, str]] = set()


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """See `service.loss.formula.softmax_statistics`, which also runs here if a gradient is needed."""
    if logits.is_cuda and not needs_gradient(logits):
        row = _by_triton(logits, targets, prediction=prediction, moments=moments)
        if row is not None:
            return row
    return formula.softmax_statistics(logits, targets, prediction=prediction, moments=moments)


@cache
def check_kernels(device: str) -> tuple[KernelCheck, ...]:
    """Check every Triton kernel on this device, once per process, and never use one that fails.

    All failures are logged as one warning; the plain implementation is used in place of the failed kernels.

    Args:
        device: `cuda:N`; or `cpu`, where Triton interprets the kernels.
    """
    started = time.perf_counter()
    checks = check_triton(device)
    failed = [check for check in checks if not check.ok]
    _failed.update((torch.device(device), check.kernel, check.dtype) for check in failed)
    if len(failed) == len(checks):
        _no_kernel.set()
    if failed:
        log.warning(
            "Triton kernels failed their self-check, the plain implementation is used instead",
            device=device,
            failures=failures(failed),
        )
    else:
        seconds = round(time.perf_counter() - started, 3)
        log.info("Triton kernels passed their self-check", device=device, seconds=seconds)
    return checks


def failures(checks: Sequence[KernelCheck]) -> list[str]:
    """The failed checks as text; kernels that failed in the same way share a line."""
    names: dict[str, list[str]] = {}
    for check in checks:
        if not check.ok:
            names.setdefault(check.message, []).append(f"{check.kernel} {check.dtype}")
    return [f"{', '.join(kernels)}: {message}" for message, kernels in names.items()]


def needs_gradient(tensor: Tensor) -> bool:
    """True if autograd records operations on the tensor."""
    return tensor.requires_grad and torch.is_grad_enabled()


def _by_triton(logits: Tensor, targets: Tensor, *, prediction: bool, moments: bool) -> SoftmaxStatistics | None:
    """The statistics, or None if the kernel failed its self-check or Triton cannot build or start it (logged once)."""
    if _no_kernel.is_set():
        return None
    try:
        from service.loss.kernels import cuda as fused_cuda

        if _failed and _has_failed(logits, fused_cuda.kernel_for(logits.shape[1], logits.dtype)):
            return None
        return fused_cuda.softmax_statistics(logits, targets, prediction=prediction, moments=moments)
    except Exception as err:
        # Triton's exceptions have no common class: a package, compiler or driver library may be missing, its cache
        # may not be writable or executable, or it may not support the device.
        if isinstance(err, MemoryError) or "out of memory" in str(err):
            raise
        if not _no_kernel.is_set():
            _no_kernel.set()
            log.warning("no fused kernel, the plain implementation is used", error=f"{type(err).__name__}: {err}")
        return None


def _has_failed(logits: Tensor, kernel: str) -> bool:
    return (logits.device, kernel, str(logits.dtype).removeprefix("torch.")) in _failed
