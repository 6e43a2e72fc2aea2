"""Choice of the implementation of `softmax_statistics`: Triton on CUDA, else plain torch.

It imports torch and the standard library only: `service.loss.focal` needs no server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from threading import Event

import torch
from torch import Tensor

from service.loss import formula
from service.loss.formula import SoftmaxStatistics
from service.loss.kernels.self_check import KernelCheck, check_triton
from service.loss.tracing import has_values, needs_gradient

log = logging.getLogger("service.loss")

CPU_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Other subclasses of Tensor may give their values another meaning.
PLAIN = (Tensor, torch.nn.Parameter)

_no_kernel = Event()
# Device, kernel and dtype of each kernel that failed its self-check.
_failed: set[tuple[torch.device, str, str]] = set()


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """See `service.loss.formula.softmax_statistics`, which also runs here if a gradient is needed."""
    if logits.is_cuda and not needs_gradient(logits) and has_values(logits):
        row = _by_triton(logits, targets, prediction=prediction, moments=moments)
        if row is not None:
            return row
    return formula.softmax_statistics(logits, targets, prediction=prediction, moments=moments)


def can_use_cpu_kernel(logits: Tensor) -> bool:
    """True if the fused CPU kernel can be used: installed, supported logits, and no autograd, tracing or functorch."""
    return (
        fits_cpu_kernel(logits)
        and not needs_gradient(logits)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(logits)
        and _has_cpu_kernel()
    )


def fits_cpu_kernel(logits: Tensor) -> bool:
    """True if the fused CPU kernel supports this tensor."""
    return logits.is_cpu and logits.dtype in CPU_DTYPES and type(logits) in PLAIN


@cache
def _has_cpu_kernel() -> bool:
    try:
        import_module("service.loss.kernels.cpu")
    except ModuleNotFoundError:  # numba and ml_dtypes belong to the `server` extra
        return False
    return True


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
            "Triton kernels failed their self-check on %s, the plain implementation is used instead: %s",
            device,
            failures(failed),
        )
    else:
        log.info("Triton kernels passed their self-check on %s in %.3f s", device, time.perf_counter() - started)
    return checks


def failures(checks: Sequence[KernelCheck]) -> list[str]:
    """The failed checks as text; kernels that failed in the same way share a line."""
    names: dict[str, list[str]] = {}
    for check in checks:
        if not check.ok:
            names.setdefault(check.message, []).append(f"{check.kernel} {check.dtype}")
    return [f"{', '.join(kernels)}: {message}" for message, kernels in names.items()]


def _by_triton(logits: Tensor, targets: Tensor, *, prediction: bool, moments: bool) -> SoftmaxStatistics | None:
    """The statistics, or None if the kernel failed its self-check or Triton cannot build or start it (logged once)."""
    if _no_kernel.is_set():
        return None
    try:
        from service.loss.kernels import cuda as fused_cuda

        if _failed and _has_failed(logits, fused_cuda.kernel_for(logits)):
            return None
        return fused_cuda.softmax_statistics(logits, targets, prediction=prediction, moments=moments)
    except Exception as err:
        # Triton's exceptions have no common class: a package, compiler or driver library may be missing, its cache
        # may not be writable or executable, or it may not support the device.
        if isinstance(err, MemoryError) or "out of memory" in str(err):
            raise
        if not _no_kernel.is_set():
            _no_kernel.set()
            log.warning("no fused kernel, the plain implementation is used: %s: %s", type(err).__name__, err)
        return None


def _has_failed(logits: Tensor, kernel: str) -> bool:
    return (logits.device, kernel, str(logits.dtype).removeprefix("torch.")) in _failed
