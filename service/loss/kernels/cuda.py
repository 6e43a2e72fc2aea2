"""`service.loss.formula.softmax_statistics` on CUDA, by Triton kernels that read each logit once.

A row that fits into one tile stays in registers, several narrow ones together. A wider row is read tile by tile with a
running maximum and sums relative to it, which are rescaled when the maximum grows (Milakov & Gimelshein 2018,
arXiv:1805.02867). Dense logits (N, C, S) are read in place in tiles of some classes of consecutive elements, each with
its own running maximum. No array of the logits' size is written. The few numbers of each element are float64, as in the
plain implementation.

The float32 exponential is a multiplication and the device's exp2. Its error is |x_j - M| 2^-24 in the weight of class
j: at most 4e-7 in log s for 128 000 classes, and far less if the classes differ.

Tests run the kernels in Triton's interpreter on the CPU and compile them for GPUs. Nothing has run on a GPU yet; there,
`service.loss.kernels.self_check` compares each kernel with the plain implementation at start.
"""

from __future__ import annotations

from math import gcd

import torch
import triton
from torch import Tensor

from service.loss.formula import Moments, SoftmaxStatistics, compute_dtype, predicted_class
from service.loss.kernels.cuda_dense import reduce_dense
from service.loss.kernels.cuda_rows import exp, reduce_narrow, reduce_wide

# Size of a tile in registers, in bytes of the dtype of the computation. Tiles of wide rows use more warps, since the
# sums of each lane are in registers too.
TILE_BYTES_PER_WARP = 4096
WIDE_TILE_BYTES = 16384
WIDE_WARPS = 8
# Tiles of a wide row that are loaded or computed at the same time.
STAGES = 4
VECTOR_BYTES = 16

# Classes in a tile of dense logits; one warp reads a vector in each of its threads for every class.
DENSE_CLASSES = 8
WARP_THREADS = 32
# Share of lanes without an element from which the tiles of dense logits cross the borders of examples.
MAX_IDLE_LANES = 0.2

# Names of the kernels in log lines and in the self-check.
NARROW, WIDE, DENSE = "softmax narrow", "softmax wide", "softmax dense"


def wide_block(dtype: torch.dtype) -> int:
    """Number of classes in one tile of a wide row; a row that does not fit into one tile is wide."""
    return WIDE_TILE_BYTES // (8 if dtype == torch.float64 else 4)


def dense_elements(dtype: torch.dtype) -> int:
    """Number of elements in a tile of dense logits of this dtype."""
    return WARP_THREADS * VECTOR_BYTES // dtype.itemsize


def kernel_for(logits: Tensor) -> str:
    """The kernel that reduces logits (N, C) or (N, C, d1, ...): `NARROW`, `WIDE` or `DENSE`."""
    if logits.dim() > 2 and not _has_rows(logits.flatten(2)):
        return DENSE
    return WIDE if triton.next_power_of_2(logits.shape[1]) > wide_block(logits.dtype) else NARROW


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """The same as `service.loss.formula.softmax_statistics`, without gradients.

    Args:
        logits: (N, C) or (N, C, d1, ...) float16, bfloat16, float32 or float64 on CUDA, C >= 2; copied only if neither
            the classes nor the elements of an example are contiguous.
        targets: (N,) or (N, d1, ...) int64 in [0, C), on the same device.
        prediction: Also find the predicted class.
        moments: Also compute the moments for entropy, EL2N and the gradient norm.

    Raises:
        Exception: Triton cannot build or start the kernel; its exceptions have no common class.
    """
    shape, targets = targets.shape, targets.reshape(-1)
    sums = torch.empty((5 if moments else 3, len(targets)), dtype=compute_dtype(logits), device=logits.device)
    positions = torch.empty(len(targets) if prediction else 0, dtype=torch.int32, device=logits.device)
    if len(targets):
        _launch(logits, targets.contiguous(), sums, positions, PREDICTION=prediction, MOMENTS=moments)
    target_logit, largest, total = sums[:3].double()
    # A NaN appears in the sum; a GPU's maximum skips it.
    bad = total.isnan() | (largest == torch.inf)
    masked = torch.isneginf(largest)
    total = total.masked_fill(masked, 1)
    margin = torch.where(masked, torch.inf, target_logit - largest)
    valid = target_logit.isfinite() & ~bad & (masked | margin.isfinite())
    return SoftmaxStatistics(
        logit_margin=margin.reshape(shape),
        log_others=total.log().reshape(shape),
        valid=valid.reshape(shape),
        prediction=predicted_class(positions, largest, targets, target_logit).reshape(shape) if prediction else None,
        moments=_moments(sums, total, shape) if moments else None,
    )


def _has_rows(logits: Tensor) -> bool:
    """True if the classes of dense logits (N, C, S) are contiguous, as in torch's `channels_last`."""
    return logits.stride(1) == 1 and logits.shape[2] > 1


def _launch(logits: Tensor, targets: Tensor, sums: Tensor, positions: Tensor, **flags: bool) -> None:
    flags["FAST"] = sums.dtype == torch.float32 and isinstance(exp, triton.JITFunction)
    tensors = (targets, sums, positions)
    # Triton launches on the current device, which may be another than that of the tensors.
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        if kernel_for(logits) == DENSE:
            _launch_dense(logits.flatten(2), *tensors, **flags)
        elif logits.dim() > 2:
            _launch_rows(logits.flatten(2).movedim(1, 2).flatten(0, 1), *tensors, **flags)
        else:
            _launch_rows(logits, *tensors, **flags)


def _launch_rows(logits: Tensor, *tensors: Tensor, **flags: bool) -> None:
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    num_rows, num_classes = logits.shape
    align = gcd(num_classes, logits.stride(0), VECTOR_BYTES // logits.element_size())
    numbers = (num_rows, logits.stride(0) // align, num_classes // align)
    if kernel_for(logits) == WIDE:
        block = wide_block(logits.dtype)
        reduce_wide[(num_rows,)](
            logits, *tensors, *numbers, ALIGN=align, BLOCK=block, STAGES=STAGES, num_warps=WIDE_WARPS, **flags
        )
    else:
        block = triton.next_power_of_2(num_classes)
        per_warp = TILE_BYTES_PER_WARP // compute_dtype(logits).itemsize
        rows, warps = max(1, per_warp // block), max(1, block // per_warp)
        grid = (triton.cdiv(num_rows, rows),)
        reduce_narrow[grid](logits, *tensors, *numbers, ALIGN=align, ROWS=rows, BLOCK=block, num_warps=warps, **flags)


def _launch_dense(logits: Tensor, *tensors: Tensor, **flags: bool) -> None:
    if logits.stride(2) != 1:
        logits = logits.contiguous()
    num_examples, num_classes, per_example = logits.shape
    example_stride, class_stride, _ = logits.stride()
    align = gcd(per_example, class_stride, example_stride, VECTOR_BYTES // logits.element_size())
    block = dense_elements(logits.dtype)
    blocks = triton.cdiv(per_example, block)
    crossing = 1 - per_example / (blocks * block) > MAX_IDLE_LANES
    grid = (triton.cdiv(num_examples * per_example, block) if crossing else num_examples * blocks,)
    units = (per_example // align, class_stride // align, example_stride // align)
    reduce_dense[grid](
        logits,
        *tensors,
        num_examples,
        *units,
        num_classes,
        ALIGN=align,
        ELEMENTS=block,
        CLASSES=DENSE_CLASSES,
        CROSSING=crossing,
        num_warps=1,
        **flags,
    )


def _moments(sums: Tensor, total: Tensor, shape: tuple[int, ...]) -> Moments:
    squared, w_log_w = sums[3:].double()
    entropy = (total.log() - w_log_w / total).clamp(min=0)
    return Moments((squared / total.square()).reshape(shape), entropy.reshape(shape))
