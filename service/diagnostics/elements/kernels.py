"""Probabilities of elements in compiled loops that read the logits in place: 64 elements at a time, in float64.

Every function takes `logits`, contiguous float32 or float64, of shape (S, C) if `by_rows`, else (C, S); `targets`,
(S,) int64 in [0, C), -1 for an ignored element; and scratch space: `block` (C, 64) and `lanes` (5, 64), float64. An
element's results do not depend on the elements next to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from service.diagnostics import label_errors
from service.diagnostics.label_errors import TOLERANCE
from service.loss.kernels import cpu_compile, cpu_llvm, cpu_math
from service.loss.kernels.cpu_compile import VECTOR_OPTIONS, compiled, never_inline, vector
from service.loss.kernels.cpu_llvm import LANES, prefetch_lanes
from service.loss.kernels.cpu_math import LOWEST, exp

NUM_LANES = 5
# Elements between those that are read and those that are fetched into the cache.
AHEAD = 256

_kernel: Any = compiled(cpu_compile, cpu_llvm, cpu_math, label_errors, **VECTOR_OPTIONS)


@_kernel
def write_probabilities(logits: Any, by_rows: bool, p: Any, block: Any, lanes: Any) -> None:
    """Write the probabilities of all classes to `p`, (S, C) float64."""
    for first in range(0, len(p), LANES):
        count = min(LANES, len(p) - first)
        _load(logits, by_rows, first, count, block)
        _softmax(block, lanes)
        for c in range(len(block)):
            for lane in range(count):
                p[first + lane, c] = block[c, lane]


@_kernel
def sum_confidences(logits: Any, by_rows: bool, targets: Any, sums: Any, block: Any, lanes: Any) -> None:
    """Add the probabilities of the targets to `sums`, (3, C) int64: see `ProbabilitySums.add_sums`."""
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, by_rows, first, count, block)
        _softmax(block, lanes)
        for lane in range(count):
            target = targets[first + lane]
            if target >= 0:
                # Adding 2^52 rounds to an integer; rint is a call.
                scaled = np.int64((block[target, lane] * 2.0**52 + 2.0**52) - 2.0**52)
                sums[0, target] += 1
                sums[1, target] += scaled >> 26
                sums[2, target] += scaled & (2**26 - 1)


@_kernel
def write_confidences(logits: Any, by_rows: bool, targets: Any, p_t: Any, other: Any, block: Any, lanes: Any) -> None:
    """Write the probability of each element's target, and that of its most likely other class.

    `p_t` and `other` are the results, (S,) float64, NaN for an ignored element; see above for the other arguments.
    """
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, by_rows, first, count, block)
        _softmax(block, lanes)
        _largest_others(block, targets[first : first + count], lanes[2], lanes[3])
        for lane in range(count):
            target = targets[first + lane]
            p_t[first + lane] = block[target, lane] if target >= 0 else np.nan
            other[first + lane] = lanes[3, lane] if target >= 0 else np.nan


@_kernel
def count_suggestions(
    logits: Any,
    by_rows: bool,
    targets: Any,
    reach: Any,
    joint: Any,
    suspects: Any,
    least: Any,
    gate: Any,
    suspected: Any,
    groups: Any,
    margins: Any,
    block: Any,
    lanes: Any,
    start: int,
) -> tuple[int, int]:
    """Count pairs of an element's target and the class that it confidently belongs to, and write large margins.

    This class is the only one whose `reach` the element reaches, its most likely one if there are several.

    Args:
        logits: See above.
        by_rows: See above.
        targets: See above.
        reach: (C,) float64, least probabilities of the classes.
        joint: (C, C) int64, increased for each element that has such a class.
        suspects: (C, C) int64, increased if, in addition, it is another class than the target, and some class is more
            likely than the target by more than 1e-6.
        least: (C, C) float64, smallest margin p_class - p_target that is written, by target and other class.
        gate: (C,) float64, smallest value of each row of `least`.
        suspected: Result (S,) bool, the elements that `suspects` counts.
        groups: Result of 64 (C - 1) integers or more: target C + other class of each pair of an element and another
            class whose margin is large enough, by element and class.
        margins: Result like `groups`: the margin of each pair.
        block: See above.
        lanes: See above.
        start: First element, a multiple of 64.

    Returns:
        Number of pairs, and the end of the elements, before S if the results are full.
    """
    number = 0
    for first in range(start, len(targets), LANES):
        if number + LANES * (len(block) - 1) > len(groups):
            return number, first
        count = min(LANES, len(targets) - first)
        _load(logits, by_rows, first, count, block)
        _softmax(block, lanes)
        _suggest(block, reach, lanes)
        for lane in range(count):
            target = targets[first + lane]
            suspected[first + lane] = False
            if target < 0 or lanes[3, lane] == 0:
                continue
            suggested = int(lanes[4, lane] if lanes[3, lane] > 1 else lanes[2, lane])
            joint[target, suggested] += 1
            if suggested != target and _differs(block[target, lane], lanes[0, lane], target, int(lanes[4, lane])):
                suspects[target, suggested] += 1
                suspected[first + lane] = True
        for lane in range(count):
            target = targets[first + lane]
            if target < 0:
                continue
            # Another class has the largest probability, or at most what the target leaves.
            likely, p_t = int(lanes[4, lane]), block[target, lane]
            if (lanes[0, lane] if likely != target else 1 - p_t + TOLERANCE) - p_t >= gate[target]:
                for c in range(len(block)):
                    margin = block[c, lane] - block[target, lane]
                    if c != target and margin >= least[target, c]:
                        groups[number], margins[number] = target * len(block) + c, margin
                        number += 1
    return number, len(targets)


@_kernel
def write_margins(
    logits: Any,
    by_rows: bool,
    targets: Any,
    least: Any,
    lead: Any,
    differs: Any,
    places: Any,
    groups: Any,
    margins: Any,
    queue: Any,
    queued: Any,
    block: Any,
    lanes: Any,
    start: int,
) -> tuple[int, int]:
    """Write large margins, without probabilities of elements whose logits show that they have none.

    Args:
        logits: See above.
        by_rows: See above.
        targets: See above.
        least: See `count_suggestions`.
        lead: (C,) float64, by target, smallest difference between the largest other logit and the target's for which a
            margin may be large enough.
        differs: Result (S,) bool: true where a margin is written and some class is more likely than the target by more
            than 1e-6.
        places: Result like `groups`: the element of each pair.
        groups: Result of 128 (C - 1) integers or more, see `count_suggestions`.
        margins: Result like `groups`, see `count_suggestions`.
        queue: Scratch like `block`.
        queued: Scratch (64,) int64.
        block: See above.
        lanes: See above.
        start: First element, a multiple of 64.

    Returns:
        Number of pairs, and the end of the elements, before S if the results are full.
    """
    number, waiting, num_classes = 0, 0, len(block)
    for first in range(start, len(targets) + LANES, LANES):
        # Elements wait until they fill a block, so that few probabilities are computed in vain.
        count = min(LANES, len(targets) - first)
        full = number + 2 * LANES * (num_classes - 1) > len(groups)
        if waiting > 0 and (full or count <= 0):
            number = _write(queue, queued, waiting, targets, least, differs, places, groups, margins, lanes, number)
            waiting = 0
        if full or count <= 0:
            return number, max(min(first, len(targets)), start)
        _load(logits, by_rows, first, count, block)
        _largest_others(block, targets[first : first + count], lanes[2], lanes[3])
        for lane in range(count):
            target = targets[first + lane]
            if target >= 0 and lanes[3, lane] - block[target, lane] >= lead[target]:
                for c in range(num_classes):
                    queue[c, waiting] = block[c, lane]
                queued[waiting] = first + lane
                waiting += 1
                if waiting == LANES:
                    number = _write(
                        queue, queued, waiting, targets, least, differs, places, groups, margins, lanes, number
                    )
                    waiting = 0
    return number, len(targets)


@vector
def _write(
    queue: Any,
    queued: Any,
    count: int,
    targets: Any,
    least: Any,
    differs: Any,
    places: Any,
    groups: Any,
    margins: Any,
    lanes: Any,
    number: int,
) -> int:
    """Write the margins of the elements that wait, and return the number of pairs so far."""
    _softmax(queue, lanes)
    for lane in range(count):
        place = queued[lane]
        target, largest, likely, before = targets[place], -1.0, 0, number
        for c in range(len(queue)):
            if queue[c, lane] > largest:
                largest, likely = queue[c, lane], c
            margin = queue[c, lane] - queue[target, lane]
            if c != target and margin >= least[target, c]:
                places[number], groups[number], margins[number] = place, target * len(queue) + c, margin
                number += 1
        differs[place] = number > before and _differs(queue[target, lane], largest, target, likely)
    return number


@vector
def _differs(p_t: float, largest: float, target: int, likely: int) -> bool:
    """True if the target is not the most likely class even with its probability raised by the tolerance."""
    raised = p_t + TOLERANCE
    return likely != target and (largest > raised or (largest == raised and likely < target))


@vector
def _load(logits: Any, by_rows: bool, first: int, count: int, block: Any) -> None:
    """Load elements into the first `count` lanes of a block; the other lanes get zeros."""
    if count < LANES:
        block[:] = 0
    if by_rows:
        for lane in range(count):
            for c in range(len(block)):
                block[c, lane] = logits[first + lane, c]
    else:
        for c in range(len(block)):
            row = logits[c]
            prefetch_lanes(logits, c, first + AHEAD)
            for lane in range(count):
                block[c, lane] = row[first + lane]


@vector
def _softmax(block: Any, lanes: Any) -> None:
    """Replace logits by probabilities; `lanes[0]` gets the largest of each lane."""
    never_inline()
    top, total = lanes[0], lanes[1]
    for lane in range(LANES):
        top[lane] = block[0, lane]
        total[lane] = 0
    for c in range(1, len(block)):
        row = block[c]
        for lane in range(LANES):
            top[lane] = max(top[lane], row[lane])
    for c in range(len(block)):
        row = block[c]
        for lane in range(LANES):
            row[lane] = exp(max(row[lane] - top[lane], LOWEST))
            total[lane] += row[lane]
    for lane in range(LANES):
        top[lane] = 1 / total[lane]
    for c in range(len(block)):
        row = block[c]
        for lane in range(LANES):
            row[lane] *= top[lane]


@vector
def _suggest(block: Any, reach: Any, lanes: Any) -> None:
    """Write the first class that is reached, the number of those, and the most likely class to lanes[2:]."""
    never_inline()
    top, only, number, likely = lanes[0], lanes[2], lanes[3], lanes[4]
    none = float(len(block))
    for lane in range(LANES):
        only[lane], number[lane], likely[lane] = none, 0, none
    for c in range(len(block)):
        row, least, position = block[c], reach[c], float(c)
        for lane in range(LANES):
            reached = row[lane] >= least
            only[lane] = min(only[lane], position if reached else none)
            number[lane] += 1.0 if reached else 0.0
            likely[lane] = min(likely[lane], position if row[lane] == top[lane] else none)


@vector
def _largest_others(block: Any, targets: Any, wanted: Any, largest: Any) -> None:
    """Write the largest value of each lane, except that of the target; `wanted` is scratch."""
    for lane in range(LANES):
        wanted[lane] = targets[lane] if lane < len(targets) else -1
    _largest_except(block, wanted, largest)


@vector
def _largest_except(block: Any, classes: Any, largest: Any) -> None:
    never_inline()
    for lane in range(LANES):
        largest[lane] = -np.inf
    for c in range(len(block)):
        row, position = block[c], float(c)
        for lane in range(LANES):
            largest[lane] = max(largest[lane], row[lane] if classes[lane] != position else -np.inf)
