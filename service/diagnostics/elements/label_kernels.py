"""Probabilities of multi-label targets in compiled loops, 64 targets at a time, in float64.

Every function takes flat `logits`, contiguous float32 or float64, and `targets`, int8: 1 (positive), 0 (negative) or -1
(ignored), of rows with `num_labels` each. A cell of label l and target y is 2 l + y.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from service.diagnostics import label_errors
from service.diagnostics.label_errors import TOLERANCE
from service.loss.kernels import cpu_compile, cpu_llvm, cpu_math
from service.loss.kernels.cpu_compile import VECTOR_OPTIONS, compiled, never_inline, vector
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_math import LOWEST, exp

# The rows of the scratch space `lanes`.
POSITIVE, GIVEN, OTHER, DIFFERS, TARGET, SUGGESTED = range(6)
NUM_LANES = 6

_kernel: Any = compiled(cpu_compile, cpu_llvm, cpu_math, label_errors, **VECTOR_OPTIONS)


@_kernel
def write_probabilities(logits: Any, targets: Any, positive: Any, given: Any, lanes: Any) -> None:
    """Write the probabilities of positive targets, and of the given targets (NaN for ignored ones), float64."""
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, targets, first, count, lanes)
        for lane in range(count):
            positive[first + lane] = lanes[POSITIVE, lane]
            given[first + lane] = lanes[GIVEN, lane] if targets[first + lane] >= 0 else np.nan


@_kernel
def sum_confidences(logits: Any, targets: Any, num_labels: int, sums: Any, lanes: Any) -> None:
    """Add the probabilities of the targets to `sums`, (cells, 3) int64: see `ProbabilitySums.add_sums`."""
    label = 0
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, targets, first, count, lanes)
        for lane in range(count):
            target = targets[first + lane]
            if target >= 0:
                # Adding 2^52 rounds to an integer; rint is a call.
                scaled = np.int64((lanes[GIVEN, lane] * 2.0**52 + 2.0**52) - 2.0**52)
                cell = label * 2 + target
                sums[cell, 0] += 1
                sums[cell, 1] += scaled >> 26
                sums[cell, 2] += scaled & (2**26 - 1)
            label = label + 1 if label + 1 < num_labels else 0


@_kernel
def count_suggestions(
    logits: Any,
    targets: Any,
    num_labels: int,
    reach: Any,
    joint: Any,
    suspects: Any,
    suspected: Any,
    places: Any,
    positive: Any,
    lanes: Any,
) -> int:
    """Count the targets that are confidently right or wrong, and write those that are less likely than their opposite.

    Args:
        logits: See above.
        targets: See above.
        num_labels: See above.
        reach: (2, num_labels + 64) float64, least probabilities of confidently negative and positive targets; those of
            the labels are repeated.
        joint: (cells, 3) int64, increased for each target. Column: the target 0 or 1 that the example confidently has,
            i.e. that whose `reach` is reached, the more likely one if both are, 0 if they are equally likely; 2: none.
        suspects: (cells, 3) int64, the same for the wrong ones that are less likely than their opposite.
        suspected: Result of a bool for each target, those that `suspects` counts.
        places: Result of an int64 for each target: those that are less likely than their opposite by more than 1e-6.
        positive: Result like `places`, float64: the probabilities that they are positive.
        lanes: Scratch (6, 64) float64.

    Returns:
        Number of targets in `places`.
    """
    label, number = 0, 0
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, targets, first, count, lanes)
        _suggest(reach[:, label : label + LANES], lanes)
        for lane in range(count):
            place, target = first + lane, targets[first + lane]
            suspected[place] = False
            if target >= 0:
                cell, suggested = label * 2 + target, int(lanes[SUGGESTED, lane])
                joint[cell, suggested] += 1
                if lanes[DIFFERS, lane] > 0:
                    places[number], positive[number] = place, lanes[POSITIVE, lane]
                    number += 1
                    if suggested == 1 - target:
                        suspects[cell, suggested] += 1
                        suspected[place] = True
            label = label + 1 if label + 1 < num_labels else 0
    return number


@_kernel
def write_differing(logits: Any, targets: Any, places: Any, positive: Any, lanes: Any) -> int:
    """Write the targets that are less likely than their opposite: see `count_suggestions`."""
    number = 0
    for first in range(0, len(targets), LANES):
        count = min(LANES, len(targets) - first)
        _load(logits, targets, first, count, lanes)
        for lane in range(count):
            # The next one that differs replaces it.
            places[number], positive[number] = first + lane, lanes[POSITIVE, lane]
            number += int(lanes[DIFFERS, lane])
            if number == len(places):
                return number
    return number


@vector
def _load(logits: Any, targets: Any, first: int, count: int, lanes: Any) -> None:
    """Write probabilities of `count` targets; the other lanes hold ignored ones."""
    if count < LANES:
        lanes[POSITIVE] = 0
        lanes[TARGET] = -1
    for lane in range(count):
        lanes[POSITIVE, lane] = logits[first + lane]
    for lane in range(count):
        lanes[TARGET, lane] = targets[first + lane]
    _evaluate(lanes)


@vector
def _evaluate(lanes: Any) -> None:
    """Turn logits into probabilities, and mark the targets that are less likely than their opposite."""
    never_inline()
    row, given, other, differs, target = lanes[POSITIVE], lanes[GIVEN], lanes[OTHER], lanes[DIFFERS], lanes[TARGET]
    for lane in range(LANES):
        x = row[lane]
        e = exp(max(-abs(x), LOWEST))
        positive = (1.0 if x >= 0 else e) / (1 + e)
        negative = 1 - positive
        row[lane] = positive
        given[lane] = positive if target[lane] == 1 else negative
        other[lane] = negative if target[lane] == 1 else positive
    for lane in range(LANES):
        # Of equally likely ones the negative is the most likely one, as numpy's argmax has it.
        raised = given[lane] + TOLERANCE
        less = 1.0 if other[lane] > raised else 0.0
        equal = 1.0 if other[lane] == raised else 0.0
        differs[lane] = max(less, min(equal, target[lane])) if target[lane] >= 0 else 0.0


@vector
def _suggest(reach: Any, lanes: Any) -> None:
    """Write the target that each example confidently has, 2 for none."""
    never_inline()
    row, suggested, least, most = lanes[POSITIVE], lanes[SUGGESTED], reach[0], reach[1]
    for lane in range(LANES):
        positive = row[lane]
        negative = 1 - positive
        likely = 1.0 if positive > negative else 0.0
        with_positive = likely if negative >= least[lane] else 1.0
        without = 0.0 if negative >= least[lane] else 2.0
        suggested[lane] = with_positive if positive >= most[lane] else without
