"""`service.loss.formula.softmax_statistics` on CUDA, by Triton kernels that read each logit once.

A row that fits into one tile stays in registers, several narrow ones together. A wider row is read tile by tile with a
running maximum and sums relative to it, which are rescaled when the maximum grows (Milakov & Gimelshein 2018,
arXiv:1805.02867). No array of the logits' size is written. The few numbers of each row are float64, as in the plain
implementation.

The float32 exponential is a multiplication and the device's exp2. Its error is |x_j - M| 2^-24 in the weight of class
j: at most 4e-7 in log s for 128 000 classes, and far less if the classes differ.

Tests run the kernels in Triton's interpreter on the CPU and compile them for GPUs. Nothing has run on a GPU yet; there,
`service.loss.kernels.self_check` compares each kernel with the plain implementation at start.
"""

from __future__ import annotations

from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from service.loss.formula import Moments, SoftmaxStatistics, compute_dtype

# Size of a tile in registers, in bytes of the dtype of the computation. Tiles of wide rows use more warps, since the
# sums of each lane are in registers too.
TILE_BYTES_PER_WARP = 4096
WIDE_TILE_BYTES = 16384
WIDE_WARPS = 8
# Tiles of a wide row that are loaded or computed at the same time.
STAGES = 4
VECTOR_BYTES = 16

# Names of the two kernels in log lines and in the self-check.
NARROW, WIDE = "softmax narrow", "softmax wide"


@triton.jit  # type: ignore[untyped-decorator]
def _exp(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    # This exp2 flushes underflow to 0; Triton's own keeps denormal weights, for twice the instructions.
    return libdevice.fast_expf(x) if FAST else tl.exp(x)


@triton.jit  # type: ignore[untyped-decorator]
def _store(sums, num_rows, row, mask, target_logit, largest, total, squared, w_log_w, MOMENTS: tl.constexpr):  # type: ignore[no-untyped-def]
    place, step = sums + row, num_rows.to(tl.int64)
    tl.store(place, target_logit, mask=mask)
    tl.store(place + step, largest, mask=mask)
    tl.store(place + 2 * step, total, mask=mask)
    if MOMENTS:
        tl.store(place + 3 * step, squared, mask=mask)
        tl.store(place + 4 * step, w_log_w, mask=mask)


# No specialisation on the numbers: otherwise each new shape that a client sends would compile a kernel.
@triton.jit(do_not_specialize=["num_rows", "row_units", "class_units"])  # type: ignore[untyped-decorator]
def _reduce_narrow(  # type: ignore[no-untyped-def]
    logits,
    targets,
    sums,
    positions,
    num_rows,
    row_units,
    class_units,
    ALIGN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    MOMENTS: tl.constexpr,
    FAST: tl.constexpr,
):
    dtype = sums.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < num_rows
    column = tl.arange(0, BLOCK)
    # The products with ALIGN let the compiler load 16 bytes at a time.
    row_start = logits + row * row_units * ALIGN
    mask = inside[:, None] & (column < class_units * ALIGN)[None, :]
    x = tl.load(row_start[:, None] + column[None, :], mask=mask, other=float("-inf")).to(dtype)
    target = tl.load(targets + row, mask=inside, other=0)
    # A cache hit: the load of the tile has fetched this line.
    target_logit = tl.load(row_start + target, mask=inside, other=0.0).to(dtype)
    x = tl.where(column[None, :] == target.to(tl.int32)[:, None], float("-inf"), x)
    largest = tl.max(x, 1)
    distance = x - tl.where(largest == float("-inf"), 0.0, largest)[:, None]
    # NaN and inf - inf end up in the sum, even if the device's maximum skips them.
    weight = _exp(distance, FAST)
    squared = tl.sum(weight * weight, 1)
    w_log_w = tl.sum(tl.where(weight > 0, weight * distance, 0.0), 1)
    _store(sums, num_rows, row, inside, target_logit, largest, tl.sum(weight, 1), squared, w_log_w, MOMENTS)
    if PREDICTION:
        first = tl.min(tl.where(x == largest[:, None], column[None, :], BLOCK), 1)
        tl.store(positions + row, first, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _fold(  # type: ignore[no-untyped-def]
    x,
    first,
    lane,
    target,
    largest,
    position,
    total,
    squared,
    w_log_w,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    MOMENTS: tl.constexpr,
    FAST: tl.constexpr,
):
    """Add a tile to the sums of a wide row; each lane of the tile has its own sums."""
    if (first <= target) & (target < first + BLOCK):
        x = tl.where(lane == target - first, float("-inf"), x)
    tile_largest = tl.max(x, 0)
    if PREDICTION:  # noqa: SIM102 - one is decided when the kernel is compiled, the other when it runs
        # The first of equal logits counts.
        if tile_largest > largest:
            position = first + tl.min(tl.where(x == tile_largest, lane, BLOCK), 0)
    new_largest = tl.maximum(largest, tile_largest)
    shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)
    scale = _exp(largest - shift, FAST)
    distance = x - shift
    weight = _exp(distance, FAST)
    if MOMENTS:
        # The sum of w log w changes by the sum of w times the step of the maximum; 0 times infinity counts as 0.
        step = tl.where(scale > 0, largest - shift, 0.0)
        w_log_w = (w_log_w + step * total) * scale + tl.where(weight > 0, weight * distance, 0.0)
        squared = squared * (scale * scale) + weight * weight
    return new_largest, position, total * scale + weight, squared, w_log_w


@triton.jit(do_not_specialize=["num_rows", "row_units", "class_units"])  # type: ignore[untyped-decorator]
def _reduce_wide(  # type: ignore[no-untyped-def]
    logits,
    targets,
    sums,
    positions,
    num_rows,
    row_units,
    class_units,
    ALIGN: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
    PREDICTION: tl.constexpr,
    MOMENTS: tl.constexpr,
    FAST: tl.constexpr,
):
    dtype = sums.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    num_classes = class_units * ALIGN
    row_start = logits + row * row_units * ALIGN
    target = tl.load(targets + row).to(tl.int32)
    target_logit = tl.load(row_start + target).to(dtype)
    lane = tl.arange(0, BLOCK)
    total = tl.full([BLOCK], 0.0, dtype)
    squared = tl.full([BLOCK], 0.0, dtype)
    w_log_w = tl.full([BLOCK], 0.0, dtype)
    largest = tl.min(total, 0) + float("-inf")
    position = 0
    whole = num_classes // BLOCK * BLOCK
    for first in tl.range(0, whole, BLOCK, num_stages=STAGES):
        x = tl.load(row_start + first + lane).to(dtype)
        largest, position, total, squared, w_log_w = _fold(
            x, first, lane, target, largest, position, total, squared, w_log_w, BLOCK, PREDICTION, MOMENTS, FAST
        )
    if whole < num_classes:
        x = tl.load(row_start + whole + lane, mask=lane < num_classes - whole, other=float("-inf")).to(dtype)
        largest, position, total, squared, w_log_w = _fold(
            x, whole, lane, target, largest, position, total, squared, w_log_w, BLOCK, PREDICTION, MOMENTS, FAST
        )
    _store(
        sums,
        num_rows,
        row,
        None,
        target_logit,
        largest,
        tl.sum(total, 0),
        tl.sum(squared, 0),
        tl.sum(w_log_w, 0),
        MOMENTS,
    )
    if PREDICTION:
        tl.store(positions + row, position)


def wide_block(dtype: torch.dtype) -> int:
    """Number of classes in one tile of a wide row; a row that does not fit into one tile is wide."""
    return WIDE_TILE_BYTES // (8 if dtype == torch.float64 else 4)


def kernel_for(num_classes: int, dtype: torch.dtype) -> str:
    """The kernel that reduces rows of this many logits of this dtype: `NARROW` or `WIDE`."""
    return WIDE if triton.next_power_of_2(num_classes) > wide_block(dtype) else NARROW


def softmax_statistics(
    logits: Tensor, targets: Tensor, *, prediction: bool = False, moments: bool = False
) -> SoftmaxStatistics:
    """The same as `service.loss.formula.softmax_statistics`, without gradients.

    Args:
        logits: (N, C) float16, bfloat16, float32 or float64 on CUDA, C >= 2; copied only if a row is not contiguous.
        targets: (N,) int64 in [0, C), on the same device.
        prediction: Also find the predicted class.
        moments: Also compute the moments for entropy, EL2N and the gradient norm.

    Raises:
        Exception: Triton cannot build or start the kernel; its exceptions have no common class.
    """
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    sums = torch.empty((5 if moments else 3, len(logits)), dtype=compute_dtype(logits), device=logits.device)
    positions = torch.empty(len(logits) if prediction else 0, dtype=torch.int32, device=logits.device)
    if len(logits):
        _launch(logits, targets.contiguous(), sums, positions, PREDICTION=prediction, MOMENTS=moments)
    target_logit, largest, total = sums[:3].double()
    # A NaN appears in the sum; a GPU's maximum skips it.
    bad = total.isnan() | (largest == torch.inf)
    masked = torch.isneginf(largest)
    total = total.masked_fill(masked, 1)
    margin = torch.where(masked, torch.inf, target_logit - largest)
    return SoftmaxStatistics(
        logit_margin=margin,
        log_others=total.log(),
        valid=target_logit.isfinite() & ~bad & (masked | margin.isfinite()),
        prediction=_predicted(positions, largest, targets, target_logit) if prediction else None,
        moments=_moments(sums, total) if moments else None,
    )


def _launch(logits: Tensor, targets: Tensor, sums: Tensor, positions: Tensor, **flags: bool) -> None:
    num_rows, num_classes = logits.shape
    align = gcd(num_classes, logits.stride(0), VECTOR_BYTES // logits.element_size())
    tensors = (logits, targets, sums, positions)
    numbers = (num_rows, logits.stride(0) // align, num_classes // align)
    flags["FAST"] = sums.dtype == torch.float32 and isinstance(_exp, triton.JITFunction)
    # Triton launches on the current device, which may be another than that of the tensors.
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        if kernel_for(num_classes, logits.dtype) == WIDE:
            block = wide_block(logits.dtype)
            _reduce_wide[(num_rows,)](
                *tensors, *numbers, ALIGN=align, BLOCK=block, STAGES=STAGES, num_warps=WIDE_WARPS, **flags
            )
        else:
            block = triton.next_power_of_2(num_classes)
            per_warp = TILE_BYTES_PER_WARP // sums.element_size()
            rows, warps = max(1, per_warp // block), max(1, block // per_warp)
            grid = (triton.cdiv(num_rows, rows),)
            _reduce_narrow[grid](*tensors, *numbers, ALIGN=align, ROWS=rows, BLOCK=block, num_warps=warps, **flags)


def _predicted(positions: Tensor, largest: Tensor, targets: Tensor, target_logit: Tensor) -> Tensor:
    position = positions.long()
    first_of_ties = (target_logit == largest) & (targets < position)
    return torch.where((target_logit > largest) | first_of_ties, targets, position)


def _moments(sums: Tensor, total: Tensor) -> Moments:
    squared, w_log_w = sums[3:].double()
    return Moments(squared / total.square(), (total.log() - w_log_w / total).clamp(min=0))
