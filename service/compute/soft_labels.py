"""Soft labels of softmax mode: a probability for each class."""

from __future__ import annotations

import numpy as np
from ml_dtypes import bfloat16

from service.loss.arrays import Array

# Largest difference of a sum from 1: floats of 16 bits round probabilities.
TOLERANCE, TOLERANCE_16_BITS = 1e-4, 1e-3


def normalize(labels: Array, ignore_index: int | None) -> tuple[Array, Array]:
    """Convert soft labels to float64 that sum to 1 exactly, up to rounding.

    Args:
        labels: (R, C) or (R, C, S), numbers.
        ignore_index: Value of all classes of an element that does not count, or None.

    Returns:
        The labels in float64; an ignored element keeps its values, an invalid one has equal shares. And (R,) or (R, S)
        bool, True for an invalid element: a label is negative or NaN, or their sum differs from 1.
    """
    shares = labels.astype(np.float64)
    total = shares.sum(axis=1, keepdims=True)
    valid = (shares >= 0).all(axis=1, keepdims=True) & (np.abs(total - 1) <= tolerance(labels))
    np.divide(shares, total, out=shares, where=valid)
    invalid = ~valid
    if ignore_index is not None:
        invalid &= (shares != ignore_index).any(axis=1, keepdims=True)
    np.copyto(shares, 1 / labels.shape[1], where=invalid)
    return shares, invalid.squeeze(axis=1)


def tolerance(labels: Array) -> float:
    """Largest difference of the sum of soft labels of this dtype from 1."""
    return TOLERANCE_16_BITS if labels.dtype in (np.float16, bfloat16) else TOLERANCE
