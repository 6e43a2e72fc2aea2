"""The CPU kernel of the softmax loss: scores blocks of elements, compiled by numba for the machine's vectors.

A block has 64 lanes. An element with few classes fills one lane: a row is transposed, dense logits, whose elements are
contiguous, are loaded as they are. Of dense logits with many classes the block takes 32 classes at a time, and reads
them twice: for the maximum, and for the sums. A long row is spread over all lanes, 64 logits in each step. In all cases
the same few loops run over all classes in float32 (float64 for float64 logits), and add the sums of at most 32 steps in
float64. The formula then converts the sums of 64 elements to their losses at once, in float64.

No sum over the classes of an element is reassociated, so its result does not depend on the elements next to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from service.loss import row_state
from service.loss.kernels import cpu_blocks, cpu_compile, cpu_llvm, cpu_loads, cpu_losses, cpu_math
from service.loss.kernels.cpu_blocks import (
    STEPS,
    add_tile,
    add_weights,
    first_position,
    lane_total,
    largest_lane,
    maxima,
    positions,
    unmask,
)
from service.loss.kernels.cpu_compile import VECTOR_OPTIONS, compiled, vector
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_loads import load_elements, load_row, load_rows
from service.loss.kernels.cpu_losses import ALPHA_T, SQUARED, add_rows, finish, store_rows
from service.loss.row_state import BAD_TARGET, COUNTED, IGNORED

# Largest number of classes of an element that fills one lane.
SHORT_ROW = 128

# For a function that Python calls too.
_shared: Any = register_jitable(**VECTOR_OPTIONS)


@_shared
def block_steps(num_classes: int, dense: bool) -> int:
    """Number of steps of a block: the classes of a lane, or the parts of a long row."""
    if num_classes <= SHORT_ROW:
        return num_classes
    return STEPS if dense else -(-num_classes // LANES)


@compiled(cpu_blocks, cpu_compile, cpu_llvm, cpu_loads, cpu_losses, cpu_math, row_state, **VECTOR_OPTIONS)
def score_rows(
    logits: Any,
    num_classes: int,
    per_example: int,
    targets: Any,
    gamma: float,
    alphas: Any,
    has_ignored: bool,
    ignored: int,
    values: Any,
    state: Any,
    prediction: Any,
    sums: Any,
    space: Any,
    lanes: Any,
    integers: Any,
    start: int,
    stop: int,
) -> None:
    """Score the elements from `start` to `stop`.

    Args:
        logits: (N, C); of dense logits (N, C, S) as (N * C, S), or with more columns, which are not read; contiguous;
            16-bit floats as integers, see `cpu_llvm.widened`.
        num_classes: C.
        per_example: S of dense logits, whose elements are numbered n * S + s; 0 for rows.
        targets: (stop - start,) int64.
        gamma: >= 0.
        alphas: (2, C) float64, weights of the classes and their logarithms; (2, 0) for weights 1.
        has_ignored: True if there is a target of elements that do not count.
        ignored: That target.
        values: Result (2 to 7, E) float64 of E elements, in the order from `LOSS`; or (2, 0), to compute `sums`.
        state: Result (E,) int8 `RowState`.
        prediction: Result (E,) int64, or (0,) to leave it out.
        sums: Result (4, E / 64 rounded up) float64, the sums of each 64 elements, if `values` is (2, 0).
        space: Scratch (32 + `block_steps` + 4, 64) or larger, float32 or float64: the dtype of the computation.
        lanes: Scratch (17, 64) float64.
        integers: Scratch (4, 64) int64.
        start: First element, a multiple of 64.
        stop: End of the elements.
    """
    moments, with_positions = len(values) > SQUARED, len(prediction) > 0
    flags = (moments, with_positions)
    dense = per_example > 0
    steps = block_steps(num_classes, dense)
    classes, states, position, tile_position = integers[0], integers[1], integers[2], integers[3]
    # For 64 elements: the target's logit, the largest other one, and the sums of w, w^2 and w log w over the others.
    row, lane_sums, work = lanes[:5], lanes[5:8], lanes[8:]
    work[ALPHA_T] = 1
    # This order keeps loads from the block from waiting for stores to the weights at an address with the same low bits.
    weights, block, partial, top = space[:STEPS], space[STEPS : STEPS + steps], space[-4:-1], space[-1]
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        _look_up(targets[first - start : first - start + count], num_classes, has_ignored, ignored, classes, states)
        if num_classes <= SHORT_ROW:
            _reduce_lanes(
                logits,
                num_classes,
                per_example,
                first,
                count,
                classes,
                block,
                weights,
                partial,
                top,
                row,
                position,
                flags,
            )
        elif dense:
            _find_maxima(
                logits,
                num_classes,
                per_example,
                first,
                count,
                classes,
                block,
                partial[0],
                top,
                row,
                position,
                tile_position,
            )
            _add_classes(
                logits, num_classes, per_example, first, count, classes, block, weights, partial, top, row, moments
            )
        else:
            _reduce_long_rows(
                logits, first, count, classes, block, weights, partial, top, row, lane_sums, position, flags
            )
        if with_positions:
            _predict(row, classes, position, prediction[first : first + count])
        finish(row, classes, states, gamma, alphas, work, len(values))
        if values.shape[1] > 0:
            store_rows(work, states, values[:, first : first + count], state[first : first + count])
        else:
            add_rows(work, states, sums[:, first // LANES])


@vector
def _look_up(targets: Any, num_classes: int, has_ignored: bool, ignored: int, classes: Any, state: Any) -> None:
    """Set the states of 64 rows and the classes to look up; lanes after the last row are ignored."""
    state[:], classes[:] = IGNORED, 0
    for lane in range(len(targets)):
        target = targets[lane]
        counts = 0 <= target < num_classes
        classes[lane] = target if counts else 0
        state[lane] = IGNORED if has_ignored and target == ignored else COUNTED if counts else BAD_TARGET


@vector
def _reduce_lanes(
    logits: Any,
    num_classes: int,
    per_example: int,
    first: int,
    count: int,
    classes: Any,
    block: Any,
    weights: Any,
    partial: Any,
    top: Any,
    row: Any,
    position: Any,
    flags: Any,
) -> None:
    """Reduce elements with few classes, each in its lane."""
    moments, with_positions = flags
    if per_example > 0:
        # For a literal 0 numba would compile `load_elements` once more.
        begin = np.int64(0)
        load_elements(logits, num_classes, per_example, first, count, begin, classes, block, row[0])
    else:
        load_rows(logits[first : first + count], classes, block, row[0])
    maxima(block, top)
    for lane in range(LANES):
        row[1, lane] = top[lane]
    if with_positions:
        positions(block, top, position)
    add_weights(block, top, weights, partial, row[2:], moments)


@vector
def _reduce_long_rows(
    logits: Any,
    first: int,
    count: int,
    classes: Any,
    block: Any,
    weights: Any,
    partial: Any,
    top: Any,
    row: Any,
    lane_sums: Any,
    position: Any,
    flags: Any,
) -> None:
    """Reduce rows of many classes, each in all lanes."""
    moments, with_positions = flags
    for lane in range(count):
        row[0, lane] = load_row(logits[first + lane], classes[lane], block)
        maxima(block, top)
        largest = largest_lane(top)
        row[1, lane] = largest
        if with_positions:
            position[lane] = first_position(block, largest)
        top[:] = largest
        add_weights(block, top, weights, partial, lane_sums, moments)
        for k in range(3 if moments else 1):
            row[2 + k, lane] = lane_total(lane_sums[k])


@vector
def _find_maxima(
    logits: Any,
    num_classes: int,
    per_example: int,
    first: int,
    count: int,
    classes: Any,
    tile: Any,
    tile_top: Any,
    top: Any,
    row: Any,
    position: Any,
    tile_position: Any,
) -> None:
    """Find the target's logit, and the largest other one and its position, over all classes of dense elements."""
    top[:], position[:] = -np.inf, 0
    for begin in range(0, num_classes, STEPS):
        part = tile[: min(STEPS, num_classes - begin)]
        load_elements(logits, num_classes, per_example, first, count, begin, classes, part, row[0])
        maxima(part, tile_top)
        positions(part, tile_top, tile_position)
        for lane in range(LANES):
            position[lane] = begin + tile_position[lane] if tile_top[lane] > top[lane] else position[lane]
        for lane in range(LANES):
            top[lane] = tile_top[lane] if tile_top[lane] > top[lane] else top[lane]
    for lane in range(LANES):
        row[1, lane] = top[lane]


@vector
def _add_classes(
    logits: Any,
    num_classes: int,
    per_example: int,
    first: int,
    count: int,
    classes: Any,
    tile: Any,
    weights: Any,
    partial: Any,
    top: Any,
    row: Any,
    moments: bool,
) -> None:
    """Add up the weights over all classes of dense elements."""
    row[2:] = 0
    unmask(top)
    for begin in range(0, num_classes, STEPS):
        part = tile[: min(STEPS, num_classes - begin)]
        load_elements(logits, num_classes, per_example, first, count, begin, classes, part, row[0])
        add_tile(part, top, weights, partial, row[2:], moments)


@vector
def _predict(row: Any, targets: Any, position: Any, prediction: Any) -> None:
    """Extend the positions among the other classes to all classes: the smallest index of the largest logit."""
    for lane in range(len(prediction)):
        target_logit, largest, target = row[0, lane], row[1, lane], targets[lane]
        at_target = target_logit > largest or (target_logit == largest and target < position[lane])
        prediction[lane] = target if at_target else position[lane]
