"""Outputs of the elements of a batch, collected part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.compute.elements import Elements, Part
from service.loss.arrays import Array
from service.loss.scores import Scores


class ElementOutputs:
    """Arrays with outputs of all elements of a batch.

    Args:
        elements: The batch.
        names: Names of the outputs.
        dtype: Dtype of all but `prediction`, which is int64.
    """

    def __init__(self, elements: Elements, names: Sequence[str], dtype: np.dtype[Any]) -> None:
        self._elements = elements
        self._dtype = dtype
        # A contribution is a loss until its divisor is known, which is rounded once, at the end.
        dtypes = {"prediction": np.dtype(np.int64), "contribution": np.dtype(np.float64)}
        self._arrays = {name: np.empty(elements.grid, dtypes.get(name, dtype)) for name in names}

    def add(self, part: Part, scores: Scores) -> None:
        """Store the outputs of the elements of a part."""
        for name, array in self._arrays.items():
            values = scores.loss if name in ("loss", "contribution") else scores.outputs[name]
            # A loss beyond the range of float32 becomes inf in a float32 array (IEEE 754).
            with np.errstate(over="ignore"):
                part.store(self._elements, values, array)

    def prediction(self, excluded: Array) -> Array:
        """Predictions (R,), of several labels (R, L), of a batch of rows with one place each; -1 in these rows."""
        self._arrays["prediction"][excluded] = -1
        labels = self._arrays["prediction"].reshape(len(self._arrays["prediction"]), self._elements.per_row)
        return labels if self._elements.sigmoid else labels[:, 0]

    def columns(self, names: Sequence[str], excluded: Array, divisor: Array) -> dict[str, Array]:
        """The outputs in the shape of the targets; null in the examples that are excluded.

        Args:
            names: Names of some of the outputs.
            excluded: Numbers of the excluded examples.
            divisor: (N,) float64, the divisor of the losses of each example's elements.
        """
        columns = {}
        by_row, rows = divisor, excluded
        if self._elements.offsets is not None:
            sizes = np.diff(self._elements.offsets)
            by_row = np.repeat(divisor, sizes)
            is_excluded = np.zeros(len(sizes), bool)
            is_excluded[excluded] = True
            rows = np.repeat(is_excluded, sizes)
        for name in dict.fromkeys(names):
            array = self._arrays[name]
            if name == "contribution":
                if self._elements.counts is not None:
                    array = array * self._elements.counts.reshape(array.shape)
                with np.errstate(over="ignore"):
                    array = (array / by_row[:, np.newaxis, np.newaxis]).astype(self._dtype)
            array[rows] = {"prediction": -1, "contribution": 0}.get(name, np.nan)
            columns[name] = array.reshape(self._elements.shape)
        return columns
