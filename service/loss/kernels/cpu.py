"""The fused softmax loss on the CPU: reads the logits in blocks that stay in cache, with vectors and threads.

It computes the same as `formula`, the plain implementation that it is tested against.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import pairwise
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
import torch
from ml_dtypes import bfloat16
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from service.loss.arrays import Array, Rows, as_array
from service.loss.formula import Moments, SoftmaxStatistics
from service.loss.kernels import cpu_rows as cpu_kernel
from service.loss.kernels.choose import CPU_DTYPES, fits_cpu_kernel
from service.loss.kernels.cpu_blocks import STEPS
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_losses import (
    ALPHA_T,
    ENTROPY,
    LOG_LOSS,
    LOG_OTHERS,
    LOGIT_MARGIN,
    LOSS,
    SQUARED,
    SUMS,
)
from service.loss.kernels.cpu_rows import block_steps
from service.loss.row_state import BAD_LOGIT

# Minimum number of logits per thread: for fewer, starting the thread takes longer than computing them.
THREAD_ELEMENTS = 2**18

NUMPY_DTYPES = (np.float32, np.float64, bfloat16, np.float16)

# Integer dtypes in which the kernel reads 16-bit floats; see `cpu_llvm.widened`.
AS_STORED = {np.dtype(bfloat16): np.int16, np.dtype(np.float16): np.uint16}

# Targets of another dtype are converted in parts of this size, so that there is no copy of all of them.
CONVERTED_TARGETS = 2**13

CACHE_LINE = 64
NO_SUMS = np.empty((len(SUMS), 0))


class FusedScores(NamedTuple):
    """The result of `score_rows` for E elements, in the order of the targets.

    Args:
        state: (E,) int8 `RowState`.
        loss: (E,) float64, unreduced; this and the following are meaningless in elements that do not count.
        alpha_t: (E,) float64.
        log_loss: (E,) float64; the loss itself unless requested.
        statistics: None unless requested; tensors, since torch computes the scores from them.
    """

    state: Array
    loss: Array
    alpha_t: Array
    log_loss: Array
    statistics: SoftmaxStatistics | None


class FusedSums(NamedTuple):
    """The result of `sum_rows`.

    Args:
        loss: Sum of the losses of the elements that are not ignored.
        alpha_t: Sum of the alpha_t of these elements.
        num_counted: Number of elements that are not ignored.
        num_bad_targets: Number of elements whose target is out of range; if it is not 0, the sums are meaningless.
    """

    loss: float
    alpha_t: float
    num_counted: int
    num_bad_targets: int


def supports(logits: Rows) -> bool:
    """True if `score_rows` supports these logits: an array or a plain CPU tensor of floats."""
    if isinstance(logits, np.ndarray):
        return logits.dtype in NUMPY_DTYPES
    return fits_cpu_kernel(logits)


def score_rows(
    logits: Rows,
    targets: Rows,
    gamma: float,
    weights: Tensor | None,
    ignore_index: int | None,
    *,
    log_loss: bool = False,
    statistics: bool = False,
    prediction: bool = False,
    moments: bool = False,
) -> FusedScores:
    """The softmax focal loss of each element, and the statistics from which other scores follow.

    Args:
        logits: (N, C) or (N, C, S), C >= 2; see `supports`. Dense logits are read in place if the elements of each
            class, or the classes of each element, are contiguous.
        targets: (N,) or (N, S) integers.
        gamma: >= 0.
        weights: (C,) float64, or None for all 1.
        ignore_index: Target of an element that does not count, or None.
        log_loss: Also compute the logarithm of the loss.
        statistics: Also compute the statistics and the logarithm of the loss.
        prediction: Also find the predicted class, for the statistics.
        moments: Also compute the moments, for the statistics; implies `statistics`.
    """
    count = _count(targets)
    num_values = 7 if moments else 5 if statistics else 3 if log_loss else 2
    values, state = np.empty((num_values, count)), np.empty(count, np.int8)
    position = np.empty(count if prediction else 0, np.int64)
    _run(logits, targets, gamma, weights, ignore_index, values, state, position, NO_SUMS)
    row_statistics = None
    if num_values > LOG_OTHERS:
        row = torch.from_numpy(values)
        row_statistics = SoftmaxStatistics(
            logit_margin=row[LOGIT_MARGIN],
            log_others=row[LOG_OTHERS],
            valid=torch.from_numpy(state != BAD_LOGIT),
            prediction=torch.from_numpy(position) if prediction else None,
            moments=Moments(row[SQUARED], row[ENTROPY]) if moments else None,
        )
    log_losses = values[LOG_LOSS if num_values > LOG_LOSS else LOSS]
    return FusedScores(state, values[LOSS], values[ALPHA_T], log_losses, row_statistics)


def sum_rows(logits: Rows, targets: Rows, gamma: float, weights: Tensor | None, ignore_index: int | None) -> FusedSums:
    """The sums over all elements, without storing anything for each element; arguments as in `score_rows`.

    Each 64 elements give one float64 sum, and these are added pairwise, so the result does not depend on the number of
    threads.
    """
    values, state, position = np.empty((2, 0)), np.empty(0, np.int8), np.empty(0, np.int64)
    sums = np.empty((len(SUMS), -(-_count(targets) // LANES)))
    _run(logits, targets, gamma, weights, ignore_index, values, state, position, sums)
    loss, alpha_t, num_counted, num_bad_targets = sums.sum(1).tolist()
    return FusedSums(loss, alpha_t, int(num_counted), int(num_bad_targets))


def _count(targets: Rows) -> int:
    return targets.numel() if isinstance(targets, Tensor) else targets.size


def _run(
    logits: Rows, targets: Rows, gamma: float, weights: Tensor | None, ignore_index: int | None, *results: Array
) -> None:
    """Run the kernel; `results` are the arrays for values, state, prediction and sums."""
    alphas = np.empty((2, 0))
    if weights is not None:
        alpha = as_array(weights).astype(np.float64)
        with np.errstate(divide="ignore"):
            alphas = np.stack((alpha, np.log(alpha)))
    num_classes = logits.shape[1]
    matrix, per_example = _as_matrix(as_array(logits))
    labels = as_array(targets).reshape(-1)
    arguments = (float(gamma), alphas, ignore_index is not None, ignore_index or 0, *results)
    dtype = np.float64 if matrix.dtype == np.float64 else np.float32
    converted = labels.dtype != np.int64

    def work(start: int, stop: int) -> None:
        scratch = _scratch(num_classes, per_example > 0, dtype, get_ident())
        step = CONVERTED_TARGETS if converted else max(1, stop - start)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            part = _contiguous(labels[first:last].astype(np.int64, copy=False))
            cpu_kernel.score_rows(matrix, num_classes, per_example, part, *arguments, *scratch, first, last)

    over_threads(work, len(labels), len(labels) * num_classes)


def _as_matrix(logits: Array) -> tuple[Array, int]:
    """Logits as the kernel reads them, and its `per_example`; 16-bit floats as integers."""
    logits = logits.view(AS_STORED.get(logits.dtype, logits.dtype))
    if logits.ndim == 2 or logits.shape[2] == 1:
        return _contiguous(logits).reshape(-1, logits.shape[1]), 0
    rows = logits.transpose(0, 2, 1)
    if rows.flags.c_contiguous:
        return _contiguous(rows).reshape(-1, logits.shape[1]), 0
    if not _is_readable(logits):
        logits = np.require(logits, requirements=("C", "A", "W"))
    num_examples, num_classes, per_example = logits.shape
    # Of a part of each class the last row ends behind the memory of the array; the kernel does not read this.
    step, size = logits.strides[1:]
    return as_strided(logits, (num_examples * num_classes, max(per_example, step // size)), (step, size)), per_example


def _is_readable(logits: Array) -> bool:
    """True if the kernel can read dense logits in place: the elements of each class are contiguous."""
    (num_examples, num_classes, per_example), (example, step, size) = logits.shape, logits.strides
    return (
        size == logits.itemsize
        and step >= per_example * size
        and step % size == 0
        and (num_examples == 1 or example == num_classes * step)
        and logits.flags.aligned
        and logits.flags.writeable
    )


# Each thread reuses its own arrays: allocating them takes as long as scoring some rows.
@lru_cache(maxsize=8)
def _scratch(num_classes: int, dense: bool, dtype: type[np.floating[Any]], thread: int) -> tuple[Array, Array, Array]:
    """Scratch arrays of a kernel call, aligned to cache lines: parts of one buffer with 8 bytes an element."""
    rows, line = STEPS + block_steps(num_classes, dense) + 4, 8 * LANES
    buffer = np.empty((rows + 17 + 4) * line + CACHE_LINE, np.uint8)
    offset = -buffer.ctypes.data % CACHE_LINE
    return (
        np.ndarray((rows, LANES), dtype, buffer, offset),
        np.ndarray((17, LANES), np.float64, buffer, offset + rows * line),
        np.ndarray((4, LANES), np.int64, buffer, offset + (rows + 17) * line),
    )


def _contiguous(array: Array) -> Array:
    # numba would compile the kernel again for arrays with another layout.
    flags = array.flags
    if flags.c_contiguous and flags.aligned and flags.writeable:
        return array
    return np.require(array, requirements=("C", "A", "W"))


def over_threads(work: Callable[[int, int], None], count: int, elements: int) -> None:
    """Call `work(start, stop)` for parts of the elements, on up to as many threads as torch uses, this one included."""
    parts = min(torch.get_num_threads(), elements // THREAD_ELEMENTS)
    if parts <= 1:
        work(0, count)
        return
    blocks = -(-count // LANES)
    bounds = pairwise(min(count, LANES * (blocks * part // parts)) for part in range(parts + 1))
    first = next(bounds)
    others = [_threads().submit(work, *part) for part in bounds]
    work(*first)
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="loss")


# A forked process inherits the pool without its threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


@cache
def warm_up() -> None:
    """Compile the kernel for every dtype of logits, or load it from numba's cache."""
    for dtype in CPU_DTYPES:
        score_rows(torch.zeros(1, 2, dtype=dtype), torch.zeros(1, dtype=torch.int64), 2, None, None)
