"""Operations on a block of 64 lanes: maxima, positions, and sums of exponentials over its steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.loss.kernels.cpu_compile import never_inline, vector, vector_sum
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_math import exp

# Number of steps summed in float32: the rounding error of such a sum is below that of its exponentials.
STEPS = 32


@vector
def maxima(block: Any, top: Any) -> None:
    """The largest value of each lane; NaNs may be skipped, they appear in the sums."""
    never_inline()
    top[:] = -np.inf
    for k in range(len(block)):
        for lane in range(LANES):
            top[lane] = block[k, lane] if block[k, lane] > top[lane] else top[lane]


@vector
def largest_lane(lanes: Any) -> Any:
    """The largest of 64 values, which it overwrites; compares halves, so that comparisons run in parallel."""
    for half in (32, 16, 8, 4, 2, 1):
        for lane in range(half):
            lanes[lane] = lanes[lane + half] if lanes[lane + half] > lanes[lane] else lanes[lane]
    return lanes[0]


@vector_sum
def lane_total(lanes: Any) -> Any:
    """The sum of 64 values."""
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@vector
def positions(block: Any, top: Any, position: Any) -> None:
    """The first step at which each lane has its largest value."""
    never_inline()
    for later in range(len(block)):
        # Not a range with a negative step: numba would expect negative indices, and the loop would have no vectors.
        k = len(block) - 1 - later
        values = block[k]
        for lane in range(LANES):
            position[lane] = k if values[lane] == top[lane] else position[lane]


@vector
def first_position(block: Any, largest: Any) -> int:
    """The first position of a value in a row that is spread over the lanes."""
    for k in range(len(block)):
        values = block[k]
        matches = 0
        for lane in range(LANES):
            matches += values[lane] == largest
        if matches > 0:
            for lane in range(LANES):
                if values[lane] == largest:
                    return k * LANES + lane
    return 0


@vector
def add_weights(block: Any, top: Any, weights: Any, partial: Any, sums: Any, moments: bool) -> None:
    """The sums of w, w^2 and w log w of each lane, with w = exp(x - top); replaces the block by log w."""
    sums[:] = 0
    unmask(top)
    for begin in range(0, len(block), STEPS):
        add_tile(block[begin : begin + STEPS], top, weights, partial, sums, moments)


@vector
def unmask(top: Any) -> None:
    """Subtract 0 from the logits of a lane if all of them are masked."""
    for lane in range(LANES):
        top[lane] = 0.0 if top[lane] == -np.inf else top[lane]


@vector
def add_tile(log_weights: Any, top: Any, weights: Any, partial: Any, sums: Any, moments: bool) -> None:
    """Add at most 32 steps to the sums of `add_weights`; `top` is finite or NaN."""
    _exponentials(log_weights, top, weights)
    _add_up(log_weights, weights, partial, moments)
    for k in range(3 if moments else 1):
        for lane in range(LANES):
            sums[k, lane] += partial[k, lane]


@vector
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


@vector
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
