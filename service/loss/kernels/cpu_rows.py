"""The CPU kernel of the softmax loss: scores blocks of rows, compiled by numba for the machine's vector instructions.

A block has 64 lanes. A short row fills one lane; a long row is spread over all lanes, 64 logits in each step. In both
cases the same few loops run over all classes in float32 (float64 for float64 logits), and add the sums of at most 32
steps in float64. The formula then converts the sums of 64 rows to their losses at once, in float64.

No sum over the classes of a row is reassociated, so a row's result does not depend on the rows next to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from service.loss import row_state
from service.loss.kernels import cpu_compile, cpu_llvm, cpu_math
from service.loss.kernels.cpu_compile import VECTOR_OPTIONS, compiled, never_inline
from service.loss.kernels.cpu_llvm import TILE_CLASSES, TILE_ROWS, prefetch, transpose_tile, widened
from service.loss.kernels.cpu_math import LOWEST, exp, log, log1p
from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED

LANES = 64
# Number of steps summed in float32: the rounding error of such a sum is below that of its exponentials.
STEPS = 32
# Largest number of classes of a row that fills one lane.
SHORT_ROW = 128

# The rows of `values`; a caller that needs fewer passes an array with fewer rows.
LOSS, ALPHA_T, LOG_LOSS, LOGIT_MARGIN, LOG_OTHERS, SQUARED, ENTROPY = range(7)
# The rows of `sums`.
SUMS = LOSS_SUM, ALPHA_SUM, NUM_COUNTED, NUM_BAD_TARGETS = range(4)

_vector: Any = njit(**VECTOR_OPTIONS)
# For sums over 64 lanes: LLVM may reorder them, in the same way for all rows.
_lanes_sum: Any = njit(**{**VECTOR_OPTIONS, "fastmath": {"contract", "reassoc"}})


@compiled(cpu_compile, cpu_llvm, cpu_math, row_state, **VECTOR_OPTIONS)
def score_rows(
    logits: Any,
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
    """Score the rows from `start` to `stop`.

    Args:
        logits: (N, C), contiguous; 16-bit floats as integers, see `cpu_llvm.widened`.
        targets: (N,) int64.
        gamma: >= 0.
        alphas: (2, C) float64, weights of the classes and their logarithms; (2, 0) for weights 1.
        has_ignored: True if there is a target of rows that do not count.
        ignored: That target.
        values: Result (2 to 7, N) float64 in the order from `LOSS`; or (2, 0), to compute `sums`.
        state: Result (N,) int8 `RowState`.
        prediction: Result (N,) int64, or (0,) to leave it out.
        sums: Result (4, N / 64 rounded up) float64, the sums of each 64 rows, if `values` is (2, 0).
        space: Scratch (32 + steps + 4, 64), float32 or float64: the dtype of the computation.
        lanes: Scratch (17, 64) float64.
        integers: Scratch (3, 64) int64.
        start: First row, a multiple of 64.
        stop: End of the rows.
    """
    num_classes = logits.shape[1]
    moments, positions = len(values) > SQUARED, len(prediction) > 0
    short = num_classes <= SHORT_ROW
    classes, states, position = integers[0], integers[1], integers[2]
    # For 64 rows: the target's logit, the largest other one, and the sums of w, w^2 and w log w over the others.
    row, lane_sums, work = lanes[:5], lanes[5:8], lanes[8:]
    work[ALPHA_T] = 1
    # This order keeps loads from the block from waiting for stores to the weights at an address with the same low bits.
    weights, block, partial, top = space[:STEPS], space[STEPS:-4], space[-4:-1], space[-1]
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        _look_up(targets[first : first + count], num_classes, has_ignored, ignored, classes, states)
        if short:
            _load_rows(logits[first : first + count], classes, block, row[0])
            _maxima(block, top)
            for lane in range(count):
                row[1, lane] = top[lane]
            if positions:
                _positions(block, top, position)
                for lane in range(count):
                    prediction[first + lane] = position[lane]
            _sums(block, top, weights, partial, row[2:], moments)
        else:
            for lane in range(count):
                row[0, lane] = _load_row(logits[first + lane], classes[lane], block)
                _maxima(block, top)
                row[1, lane] = _largest(top)
                if positions:
                    prediction[first + lane] = _first_position(block, row[1, lane])
                top[:] = row[1, lane]
                _sums(block, top, weights, partial, lane_sums, moments)
                for k in range(3 if moments else 1):
                    row[2 + k, lane] = _sum(lane_sums[k])
        if positions:
            _with_target(row, classes, prediction[first : first + count])
        _finish(row, classes, states, gamma, alphas, work, len(values))
        if values.shape[1] > 0:
            _store_rows(work, states, values[:, first : first + count], state[first : first + count])
        else:
            _add_rows(work, states, sums[:, first // LANES])


@_vector
def _look_up(targets: Any, num_classes: int, has_ignored: bool, ignored: int, classes: Any, state: Any) -> None:
    """Set the states of 64 rows and the classes to look up; lanes after the last row are ignored."""
    state[:], classes[:] = IGNORED, 0
    for lane in range(len(targets)):
        target = targets[lane]
        counts = 0 <= target < num_classes
        classes[lane] = target if counts else 0
        state[lane] = IGNORED if has_ignored and target == ignored else COUNTED if counts else BAD_TARGET


@_vector
def _load_rows(logits: Any, targets: Any, block: Any, target_logit: Any) -> None:
    """Load short rows into lanes; store and mask the target's logit."""
    never_inline()
    _transpose(logits, block)
    for lane in range(len(logits)):
        # Unsigned numbers, so that numba generates no code for negative indices.
        target = np.uintp(targets[lane])
        target_logit[lane] = block[target, lane]
        block[target, lane] = -np.inf


@_vector
def _transpose(logits: Any, block: Any) -> None:
    """Transpose rows into lanes, tile by tile; the last tile overlaps with the one before it, to fit."""
    count, num_classes = logits.shape
    if count < TILE_ROWS or num_classes < TILE_CLASSES:
        for k in range(num_classes):
            for lane in range(count):
                block[k, lane] = widened(logits[lane, k])
        return
    for lane in range(0, count, TILE_ROWS):
        for k in range(0, num_classes, TILE_CLASSES):
            transpose_tile(logits, min(lane, count - TILE_ROWS), min(k, num_classes - TILE_CLASSES), block)


@_vector
def _load_row(row: Any, target: int, block: Any) -> Any:
    """Spread a long row over the lanes; mask the target's logit and return it."""
    never_inline()
    flat = block.reshape(block.size)
    for j in range(len(row), 2 * len(row), 16):
        prefetch(row, j)
    for j in range(len(row)):
        flat[j] = widened(row[j])
    flat[len(row) :] = -np.inf
    target_logit = flat[target]
    flat[target] = -np.inf
    return target_logit


@_vector
def _maxima(block: Any, top: Any) -> None:
    """The largest value of each lane; NaNs may be skipped, they appear in the sums."""
    never_inline()
    top[:] = -np.inf
    for k in range(len(block)):
        for lane in range(LANES):
            top[lane] = block[k, lane] if block[k, lane] > top[lane] else top[lane]


@_vector
def _largest(lanes: Any) -> Any:
    """The largest of 64 values, which it overwrites; compares halves, so that comparisons run in parallel."""
    for half in (32, 16, 8, 4, 2, 1):
        for lane in range(half):
            lanes[lane] = lanes[lane + half] if lanes[lane + half] > lanes[lane] else lanes[lane]
    return lanes[0]


@_lanes_sum
def _sum(lanes: Any) -> Any:
    """The sum of 64 values."""
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@_vector
def _positions(block: Any, top: Any, position: Any) -> None:
    """The first step at which each lane has its largest value."""
    never_inline()
    for k in range(len(block) - 1, -1, -1):
        for lane in range(LANES):
            position[lane] = k if block[k, lane] == top[lane] else position[lane]


@_vector
def _first_position(block: Any, largest: Any) -> int:
    """The first position of a value in a row that is spread over the lanes."""
    flat = block.reshape(block.size)
    for j in range(len(flat)):
        if flat[j] == largest:
            return j
    return 0


@_vector
def _with_target(row: Any, targets: Any, prediction: Any) -> None:
    """Extend predictions over the other classes to all classes: the smallest index of the largest logit."""
    for lane in range(len(prediction)):
        target_logit, largest = row[0, lane], row[1, lane]
        if target_logit > largest or (target_logit == largest and targets[lane] < prediction[lane]):
            prediction[lane] = targets[lane]


@_vector
def _sums(block: Any, top: Any, weights: Any, partial: Any, sums: Any, moments: bool) -> None:
    """The sums of w, w^2 and w log w of each lane, with w = exp(x - top); replaces the block by log w."""
    sums[:] = 0
    for lane in range(LANES):
        # If all logits of a lane are masked, subtract 0.
        top[lane] = 0.0 if top[lane] == -np.inf else top[lane]
    for begin in range(0, len(block), STEPS):
        log_weights = block[begin : begin + STEPS]
        _exponentials(log_weights, top, weights)
        _add_up(log_weights, weights, partial, moments)
        for k in range(3 if moments else 1):
            for lane in range(LANES):
                sums[k, lane] += partial[k, lane]


@_vector
def _exponentials(log_weights: Any, shift: Any, weights: Any) -> None:
    never_inline()
    for k in range(len(log_weights)):
        for lane in range(LANES):
            below = log_weights[k, lane] - shift[lane]
            # exp(-87) changes no sum of at least 1, and is not subnormal.
            log_weights[k, lane] = -87.0 if below < -87.0 else below
    flat, flat_weights = log_weights.reshape(log_weights.size), weights.reshape(weights.size)
    for j in range(len(flat)):
        flat_weights[j] = exp(flat[j])


@_vector
def _add_up(log_weights: Any, weights: Any, partial: Any, moments: bool) -> None:
    never_inline()
    partial[:] = 0
    for k in range(len(log_weights)):
        for lane in range(LANES):
            partial[0, lane] += weights[k, lane]
        if moments:
            for lane in range(LANES):
                partial[1, lane] += weights[k, lane] * weights[k, lane]
            for lane in range(LANES):
                partial[2, lane] += weights[k, lane] * log_weights[k, lane]


@_vector
def _finish(row: Any, targets: Any, state: Any, gamma: float, alphas: Any, work: Any, requested: int) -> None:
    """Compute the states and the requested values of 64 rows from their sums."""
    z, cross_entropy = work[ENTROPY + 1], work[ENTROPY + 2]
    _log_odds(row, work[LOGIT_MARGIN], work[LOG_OTHERS], z)
    for lane in range(len(state)):
        only_class = (row[1, lane] == -np.inf) & (abs(row[0, lane]) < np.inf) & (z[lane] == np.inf)
        valid = only_class | (abs(z[lane]) < np.inf)
        state[lane] = state[lane] if valid | (state[lane] != COUNTED) else BAD_LOGIT
    _losses(z, gamma, cross_entropy, work[LOSS], work[LOG_LOSS], requested > LOG_LOSS)
    if alphas.shape[1] > 0:
        for lane in range(LANES):
            work[ALPHA_T, lane] = alphas[0, targets[lane]]
            work[LOSS, lane] *= work[ALPHA_T, lane]
            work[LOG_LOSS, lane] += alphas[1, targets[lane]]
    if requested > SQUARED:
        _moments(row[2:], work[LOG_OTHERS], work[SQUARED], work[ENTROPY])


@_vector
def _log_odds(row: Any, margin: Any, log_others: Any, z: Any) -> None:
    never_inline()
    target_logit, largest, total = row[0], row[1], row[2]
    for lane in range(LANES):
        margin[lane] = np.inf if largest[lane] == -np.inf else target_logit[lane] - largest[lane]
    for lane in range(LANES):
        # If all other classes are masked, the sum matters only if it is NaN.
        log_others[lane] = log(1 + (total[lane] - total[lane]) if largest[lane] == -np.inf else total[lane])
    for lane in range(LANES):
        z[lane] = margin[lane] - log_others[lane]


@_vector
def _losses(z: Any, gamma: float, cross_entropy: Any, loss: Any, log_focus: Any, with_log: bool) -> None:
    """`focal_from_log_odds` of 64 rows; if `with_log`, replace `log_focus` by `log_focal_from_log_odds`."""
    never_inline()
    for lane in range(LANES):
        # log(1 + exp(-|z|)), the part that softplus(z) and softplus(-z) share.
        below = -abs(z[lane])
        cross_entropy[lane] = log1p(exp(LOWEST if below < LOWEST else below))
    for lane in range(LANES):
        log_focus[lane] = -gamma * (cross_entropy[lane] + (z[lane] if z[lane] > 0 else 0.0)) if gamma > 0 else 0.0
    for lane in range(LANES):
        cross_entropy[lane] -= z[lane] if z[lane] < 0 else 0.0
    for lane in range(LANES):
        loss[lane] = cross_entropy[lane] * exp(LOWEST if log_focus[lane] < LOWEST else log_focus[lane])
    if with_log:
        for lane in range(LANES):
            # In float64 softplus(-z) equals exp(-z) for z > 37, and is 0 for z > 745.
            log_focus[lane] += -z[lane] if z[lane] > 37 else log(cross_entropy[lane])


@_vector
def _moments(sums: Any, log_total: Any, squared: Any, entropy: Any) -> None:
    for lane in range(LANES):
        # Without other classes the sum is 0, and so is the entropy.
        total = sums[0, lane] if sums[0, lane] >= 1 else 1.0
        squared[lane] = sums[1, lane] / (total * total)
        entropy[lane] = max(log_total[lane] - sums[2, lane] / total, 0.0)


@_vector
def _store_rows(work: Any, states: Any, values: Any, state: Any) -> None:
    for k in range(len(values)):
        for lane in range(len(state)):
            values[k, lane] = work[k, lane]
    for lane in range(len(state)):
        state[lane] = states[lane]


@_lanes_sum
def _add_rows(work: Any, state: Any, sums: Any) -> None:
    """Add the rows that are not ignored to the sums of these 64 rows."""
    never_inline()
    loss, alpha, counted, bad = 0.0, 0.0, 0, 0
    for lane in range(len(state)):
        counts = state[lane] != IGNORED
        loss += work[LOSS, lane] if counts else 0.0
        alpha += work[ALPHA_T, lane] if counts else 0.0
        counted += counts
        bad += state[lane] == BAD_TARGET
    sums[LOSS_SUM], sums[ALPHA_SUM], sums[NUM_COUNTED], sums[NUM_BAD_TARGETS] = loss, alpha, counted, bad
