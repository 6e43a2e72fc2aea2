"""Triton kernel that reduces dense logits in place: tiles of some classes of consecutive elements."""

from __future__ import annotations

import triton
import triton.language as tl

from service.loss.kernels.cuda_rows import exp, store_sums


# No specialisation on the numbers: otherwise each new shape that a client sends would compile a kernel.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["num_examples", "element_units", "class_units", "example_units", "num_classes"]
)
def reduce_dense(  # type: ignore[no-untyped-def]
    logits,
    targets,
    sums,
    positions,
    num_examples,
    element_units,
    class_units,
    example_units,
    num_classes,
    ALIGN: tl.constexpr,
    ELEMENTS: tl.constexpr,
    CLASSES: tl.constexpr,
    CROSSING: tl.constexpr,
    PREDICTION: tl.constexpr,
    MOMENTS: tl.constexpr,
    FAST: tl.constexpr,
):
    """Reduce `ELEMENTS` consecutive elements; strides are units times `ALIGN`, that of the elements is 1.

    If `CROSSING`, the elements may belong to several examples.
    """
    dtype = sums.dtype.element_ty
    per_example, class_stride = element_units * ALIGN, class_units.to(tl.int64) * ALIGN
    lane = tl.arange(0, ELEMENTS)
    if CROSSING:
        element = tl.program_id(0).to(tl.int64) * ELEMENTS + lane
        example = element // per_example
        place = element - example * per_example
        inside = example < num_examples
    else:
        blocks = tl.cdiv(per_example, ELEMENTS)
        example = (tl.program_id(0) // blocks).to(tl.int64)
        place = (tl.program_id(0) % blocks) * ELEMENTS + lane
        inside = place < per_example
        element = example * per_example + place
    # The products with ALIGN let the compiler load 16 bytes at a time, unless the lanes cross the borders of examples.
    first_logit = logits + example * example_units * ALIGN + place
    target = tl.load(targets + element, mask=inside, other=0)
    target_logit = tl.load(first_logit + target * class_stride, mask=inside, other=0.0).to(dtype)
    target = target.to(tl.int32)
    step = tl.arange(0, CLASSES)
    total = tl.full([ELEMENTS], 0.0, dtype)
    squared = tl.full([ELEMENTS], 0.0, dtype)
    w_log_w = tl.full([ELEMENTS], 0.0, dtype)
    largest = tl.full([ELEMENTS], float("-inf"), dtype)
    position = tl.full([ELEMENTS], 0, tl.int32)
    for first in range(0, num_classes, CLASSES):
        k = first + step
        mask = inside[None, :] & (k < num_classes)[:, None]
        x = tl.load(first_logit[None, :] + (k * class_stride)[:, None], mask=mask, other=float("-inf")).to(dtype)
        x = tl.where(k[:, None] == target[None, :], float("-inf"), x)
        tile_largest = tl.max(x, 0)
        if PREDICTION:
            tile_position = tl.min(tl.where(x == tile_largest[None, :], k[:, None], num_classes), 0)
            # The first of equal logits counts.
            position = tl.where(tile_largest > largest, tile_position, position)
        new_largest = tl.maximum(largest, tile_largest)
        shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        scale = exp(largest - shift, FAST)
        distance = x - shift[None, :]
        weight = exp(distance, FAST)
        if MOMENTS:
            # As in `_fold` of wide rows.
            grown = tl.where(scale > 0, largest - shift, 0.0)
            products = tl.where(weight > 0, weight * distance, 0.0)
            w_log_w = (w_log_w + grown * total) * scale + tl.sum(products, 0)
            squared = squared * (scale * scale) + tl.sum(weight * weight, 0)
        total = total * scale + tl.sum(weight, 0)
        largest = new_largest
    num_elements = num_examples.to(tl.int64) * per_example
    store_sums(sums, num_elements, element, inside, target_logit, largest, total, squared, w_log_w, MOMENTS)
    if PREDICTION:
        tl.store(positions + element, position, mask=inside)
