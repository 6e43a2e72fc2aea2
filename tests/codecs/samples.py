"""A sample result for the encoders."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.schema.result import BatchResult, Excluded, HardExample, LossResult


def result(per_example: dict[str, np.ndarray[Any, Any]] | None = None) -> LossResult:
    """Two batches with an ignored row, an excluded row and a null loss; or one batch with these outputs."""
    if per_example is not None:
        rows = len(next(iter(per_example.values())))
        return LossResult("fl_0", "cpu", 0.0, rows, 0, 0, (BatchResult(0.0, 0.0, 0.0, rows, 0, 0, per_example),))
    first = BatchResult(
        loss=0.5,
        loss_sum=0.5,
        alpha_sum=1.0,
        num_examples=3,
        num_ignored=1,
        num_excluded=1,
        per_example={
            "loss": np.array([0.5, 0, np.nan], np.float32),
            "p_t": np.array([0.75, np.nan, np.nan], np.float32),
            "prediction": np.array([1, -1, -1]),
        },
        num_elements=1,
        ids=["a", "b", 7],
    )
    second = BatchResult(
        loss=None,
        loss_sum=0.25,
        alpha_sum=0.0,
        num_examples=1,
        num_ignored=0,
        num_excluded=0,
        per_example={
            "loss": np.array([0.25], np.float32),
            "p_t": np.array([0.125], np.float32),
            "prediction": np.array([0]),
        },
        num_elements=1,
    )
    return LossResult(
        config_id="fl_0123456789abcdef",
        device="cpu",
        loss=0.5,
        num_examples=4,
        num_ignored=1,
        num_excluded=1,
        batches=(first, second),
        hardest=(
            HardExample(0, 0, "a", np.float32(0.5), np.float32(0.5), -0.7),
            HardExample(1, 0, None, np.float32(0.25), np.float32(0.25), -1.4),
        ),
        excluded=(Excluded(0, 2, 7, "invalid_logit", "NaN"),),
        num_elements=2,
    )
