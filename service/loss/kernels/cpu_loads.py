"""Loads of logits into a block of 64 lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.loss.kernels.cpu_compile import never_inline, vector
from service.loss.kernels.cpu_llvm import (
    LANES,
    TILE_CLASSES,
    TILE_ROWS,
    load_lanes,
    prefetch,
    prefetch_lanes,
    transpose_tile,
    widened,
)

# Lanes are prefetched so many classes before they are loaded.
AHEAD = 48


@vector
def load_rows(logits: Any, targets: Any, block: Any, target_logit: Any) -> None:
    """Load short rows into lanes; store and mask the target's logit."""
    never_inline()
    _transpose(logits, block)
    _mask_targets(targets, len(logits), 0, block, target_logit)


@vector
def load_elements(
    logits: Any,
    num_classes: int,
    per_example: int,
    first: int,
    count: int,
    begin: int,
    targets: Any,
    block: Any,
    target_logit: Any,
) -> None:
    """Load consecutive elements of dense logits into lanes; store and mask the target's logit.

    Args:
        logits: (N * C, S) or with more columns.
        num_classes: C.
        per_example: S.
        first: First element; they are numbered n * S + s.
        count: Number of elements, at most 64.
        begin: First class to load, as many as the block has steps.
        targets: (64,), the class of each element.
        block: Result.
        target_logit: Result (64,); unchanged where the target is not among the loaded classes.
    """
    never_inline()
    lane = 0
    while lane < count:
        example, position = divmod(first + lane, per_example)
        row, length = example * num_classes, min(count - lane, per_example - position)
        if length == LANES:
            # After the last class come the next lanes.
            blocks, ahead = divmod(begin + AHEAD, num_classes)
            for k in range(len(block)):
                prefetch_lanes(logits, row + ahead, position + blocks * LANES)
                load_lanes(logits, row + begin + k, position, block, k)
                ahead += 1
                if ahead == num_classes:
                    ahead, blocks = 0, blocks + 1
        else:
            for k in range(len(block)):
                for j in range(length):
                    block[k, lane + j] = widened(logits[row + begin + k, position + j])
        lane += length
    _mask_targets(targets, count, begin, block, target_logit)


@vector
def _mask_targets(targets: Any, count: int, begin: int, block: Any, target_logit: Any) -> None:
    """Store and mask the target's logit of each lane; the block has the classes from `begin` on."""
    for lane in range(count):
        # Unsigned, so that numba generates no code for negative indices; a target before the block is then large.
        step = np.uintp(targets[lane] - begin)
        if step < len(block):
            target_logit[lane] = block[step, lane]
            block[step, lane] = -np.inf


@vector
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


@vector
def load_row(row: Any, target: int, block: Any) -> Any:
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
