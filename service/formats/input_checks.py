"""Signs that a request holds something else than logits."""

from __future__ import annotations

import numpy as np

from service.schema.request import Column
from service.schema.result import LossWarning

ROWS_CHECKED = 64
# Largest difference of the sum of a row from 1: float16 and bfloat16 round probabilities.
SUM_TOLERANCE = 0.01

PROBABILITIES = (
    "The rows look like probabilities: all values lie in [0, 1], and each row adds up to 1. The loss applies softmax "
    "to them, so these losses are wrong. Send the logits, or the logarithms of the probabilities."
)


def look_like_probabilities(logits: Column) -> bool:
    """True if the first rows are probabilities of classes; one row, or rows of 0 and 1 only, are not enough to tell.

    Args:
        logits: (R, C) or (R, C, S) of any floating dtype, in softmax mode.
    """
    if logits.ndim == 3:
        # The first places of the first row.
        logits = logits[:1, :, :ROWS_CHECKED].transpose(0, 2, 1).reshape(-1, logits.shape[1])
    # The first value decides for almost every batch of logits, in a microsecond.
    if len(logits) < 2 or not 0 <= float(logits[0, 0]) <= 1:
        return False
    rows = logits[:ROWS_CHECKED].astype(np.float64)
    in_range = bool(((rows >= 0) & (rows <= 1)).all()) and bool(((rows > 0) & (rows < 1)).any())
    return in_range and bool((np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def probabilities_warning(batch: int) -> LossWarning:
    """The warning about a batch that `look_like_probabilities`."""
    return LossWarning(batch, "probabilities_as_logits", PROBABILITIES)
