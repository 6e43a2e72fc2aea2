"""Triton kernels that reduce rows of logits: several narrow rows in one tile, or a wide row tile by tile."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit  # type: ignore[untyped-decorator]
def exp(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """e^x, in float32 by the device's exp2."""
    # This exp2 flushes underflow to 0; Triton's own keeps denormal weights, for twice the instructions.
    return libdevice.fast_expf(x) if FAST else tl.exp(x)


@triton.jit  # type: ignore[untyped-decorator]
def store_sums(sums, num_rows, row, mask, target_logit, largest, total, squared, w_log_w, MOMENTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store the sums of elements, each kind `num_rows` numbers after the one before it."""
    place, step = sums + row, num_rows.to(tl.int64)
    tl.store(place, target_logit, mask=mask)
    tl.store(place + step, largest, mask=mask)
    tl.store(place + 2 * step, total, mask=mask)
    if MOMENTS:
        tl.store(place + 3 * step, squared, mask=mask)
        tl.store(place + 4 * step, w_log_w, mask=mask)


# No specialisation on the numbers: otherwise each new shape that a client sends would compile a kernel.
@triton.jit(do_not_specialize=["num_rows", "row_units", "class_units"])  # type: ignore[untyped-decorator]
def reduce_narrow(  # type: ignore[no-untyped-def]
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
    """Reduce `ROWS` rows that fit into one tile; the strides are `row_units` and `class_units` times `ALIGN`."""
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
    weight = exp(distance, FAST)
    squared = tl.sum(weight * weight, 1)
    w_log_w = tl.sum(tl.where(weight > 0, weight * distance, 0.0), 1)
    store_sums(sums, num_rows, row, inside, target_logit, largest, tl.sum(weight, 1), squared, w_log_w, MOMENTS)
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
    scale = exp(largest - shift, FAST)
    distance = x - shift
    weight = exp(distance, FAST)
    if MOMENTS:
        # The sum of w log w changes by the sum of w times the step of the maximum; 0 times infinity counts as 0.
        step = tl.where(scale > 0, largest - shift, 0.0)
        w_log_w = (w_log_w + step * total) * scale + tl.where(weight > 0, weight * distance, 0.0)
        squared = squared * (scale * scale) + weight * weight
    return new_largest, position, total * scale + weight, squared, w_log_w


@triton.jit(do_not_specialize=["num_rows", "row_units", "class_units"])  # type: ignore[untyped-decorator]
def reduce_wide(  # type: ignore[no-untyped-def]
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
    """Reduce one row, tile by tile; numbers as in `reduce_narrow`."""
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
    store_sums(
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
