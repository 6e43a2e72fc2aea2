"""Signs that a request holds something else than logits."""

from __future__ import annotations

import math

import numpy as np

from service.schema.config import Mode
from service.schema.request import Column
from service.schema.result import LossWarning, WarningCode

ROWS_CHECKED, LABELS_CHECKED = 64, 4096
# Largest difference of the sum of a row from 1: float16 and bfloat16 round probabilities.
SUM_TOLERANCE = 0.01
# Labels have no sum to check, so their values must be many, and wide apart.
MIN_LABELS, MIN_RANGE = 64, 0.5
# Log-probabilities of a model that is often sure end at 0, where logits go on.
SURE, MIN_SURE = 0.9, 8

SIGNS: dict[tuple[WarningCode, Mode], str] = {
    (
        "probabilities_as_logits",
        "softmax",
    ): "look like probabilities: all values lie in [0, 1], and each row adds up to 1",
    ("probabilities_as_logits", "sigmoid"): "look like probabilities: all values lie in [0, 1], and some far apart",
    ("log_probabilities_as_logits", "softmax"): (
        "look like negative log-probabilities: the exponentials of the negative values of each row add up to 1"
    ),
    ("log_probabilities_as_logits", "sigmoid"): (
        "look like log-probabilities: no value is above 0, and many lie just below it"
    ),
}
REMEDIES: dict[Mode, str] = {
    "softmax": "Send the logits, or the logarithms of the probabilities.",
    "sigmoid": "Send the logits, log(p / (1 - p)).",
}


# The minimum of bfloat16 warns of NaN.
@np.errstate(invalid="ignore")
def unlikely_logits(logits: Column, mode: Mode) -> WarningCode | None:
    """Sign that values are no logits, from the first rows; None for logits, and where there is too little to tell.

    Args:
        logits: (R, C) or (R, C, S) of any floating dtype; in sigmoid mode also (R,).
        mode: In softmax mode log-probabilities are logits: softmax(log p) = p.
    """
    return _of_labels(logits) if mode == "sigmoid" else _of_classes(logits)


def _of_classes(logits: Column) -> WarningCode | None:
    if logits.ndim == 3:
        # The first places of the first row.
        logits = logits[:1, :, :ROWS_CHECKED].transpose(0, 2, 1).reshape(-1, logits.shape[1])
    # The first row decides for almost every batch of logits, in microseconds.
    if len(logits) < 2 or not logits[0].min() >= 0:
        return None
    rows = logits[:ROWS_CHECKED].astype(np.float64)
    if not rows.min() >= 0:
        return None
    if rows.max() <= 1 and ((rows > 0) & (rows < 1)).any() and _add_up_to_1(rows):
        return "probabilities_as_logits"
    return "log_probabilities_as_logits" if _add_up_to_1(np.exp(-rows)) else None


def _add_up_to_1(rows: Column) -> bool:
    return bool((np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def _of_labels(logits: Column) -> WarningCode | None:
    values = _some_labels(logits)
    if values.size < MIN_LABELS:
        return None
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return "probabilities_as_logits" if high - low >= MIN_RANGE else None
    is_log = high <= 0 and low <= math.log(1 - MIN_RANGE) and np.count_nonzero(values >= math.log(SURE)) >= MIN_SURE
    return "log_probabilities_as_logits" if is_log else None


def _some_labels(logits: Column) -> Column:
    """About `LABELS_CHECKED` labels at most, from all over the rows and their places."""
    labels = logits[:, :ROWS_CHECKED] if logits.ndim > 1 else logits
    of_row = math.prod(labels.shape[1:2])
    rows = labels[:: max(1, len(labels) * of_row // LABELS_CHECKED)]
    return rows if rows.ndim < 3 else rows[..., :: max(1, rows.size // LABELS_CHECKED)]


def input_warning(batch: int, code: WarningCode, mode: Mode) -> LossWarning:
    """The warning about a batch of `unlikely_logits`."""
    function = "softmax" if mode == "softmax" else "the sigmoid"
    message = f"The rows {SIGNS[code, mode]}. The loss applies {function} to them, so these losses are wrong."
    return LossWarning(batch, code, f"{message} {REMEDIES[mode]}")
