"""The losses of 64 elements at once, from the sums over their classes; in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.loss.kernels.cpu_compile import never_inline, vector, vector_sum
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_math import LOWEST, exp, log, log1p
from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED

# The rows of `values`; a caller that needs fewer passes an array with fewer rows.
LOSS, ALPHA_T, LOG_LOSS, LOGIT_MARGIN, LOG_OTHERS, SQUARED, ENTROPY = range(7)
# The rows of `sums`.
SUMS = LOSS_SUM, ALPHA_SUM, NUM_COUNTED, NUM_BAD_TARGETS = range(4)


@vector
def finish(row: Any, targets: Any, state: Any, gamma: float, alphas: Any, work: Any, requested: int) -> None:
    """Compute the states and the requested values of 64 elements from their sums."""
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


@vector
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


@vector
def _losses(z: Any, gamma: float, cross_entropy: Any, loss: Any, log_focus: Any, with_log: bool) -> None:
    """`focal_from_log_odds` of 64 elements; if `with_log`, replace `log_focus` by `log_focal_from_log_odds`."""
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


@vector
def _moments(sums: Any, log_total: Any, squared: Any, entropy: Any) -> None:
    for lane in range(LANES):
        # Without other classes the sum is 0, and so is the entropy.
        total = sums[0, lane] if sums[0, lane] >= 1 else 1.0
        squared[lane] = sums[1, lane] / (total * total)
        entropy[lane] = max(log_total[lane] - sums[2, lane] / total, 0.0)


@vector
def store_rows(work: Any, states: Any, values: Any, state: Any) -> None:
    """Store the requested values and the states of up to 64 elements."""
    for k in range(len(values)):
        for lane in range(len(state)):
            values[k, lane] = work[k, lane]
    for lane in range(len(state)):
        state[lane] = states[lane]


@vector_sum
def add_rows(work: Any, state: Any, sums: Any) -> None:
    """Add the elements that are not ignored to the sums of these 64 elements."""
    never_inline()
    loss, alpha, counted, bad = 0.0, 0.0, 0, 0
    for lane in range(len(state)):
        counts = state[lane] != IGNORED
        loss += work[LOSS, lane] if counts else 0.0
        alpha += work[ALPHA_T, lane] if counts else 0.0
        counted += counts
        bad += state[lane] == BAD_TARGET
    sums[LOSS_SUM], sums[ALPHA_SUM], sums[NUM_COUNTED], sums[NUM_BAD_TARGETS] = loss, alpha, counted, bad
