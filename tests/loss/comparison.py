"""Tolerances between an implementation and an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from service.loss.row_state import BAD_TARGET, COUNTED
from tests.loss import oracles
from tests.loss.implementations import Array, Columns, Implementation

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)


def assert_near(ours: Array, exact: Any, *, rtol: float, atol: float = 0, name: str = "") -> None:
    """Assert that values are equal up to a tolerance, with infinities and NaN in the same places."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    if ours.shape == expected.shape:
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - expected) <= atol + rtol * np.abs(expected)
        near = (near & np.isfinite(expected)) | (ours == expected) | (np.isnan(ours) & np.isnan(expected))
        if near.all():
            return
    # The slower comparison of numpy names the different elements.
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol, err_msg=name)
    raise AssertionError(name)


def assert_scores(
    implementation: Implementation,
    result: Columns,
    expected: Mapping[str, Array],
    dtype: torch.dtype,
    *,
    gamma: float,
) -> None:
    """Assert that every common column is right, for logits of a dtype.

    All errors follow from the error of z: d log FL / dz lies between -(gamma + 1) and 0. Results that are rounded to
    float32 may underflow or overflow.
    """
    rounded = implementation.rounds and dtype != torch.float64
    error = 1e-12 if dtype == torch.float64 else implementation.error
    unit = error + (FLOAT32_EPSILON if rounded else 0)
    # Absolute errors by underflow: sums of squares underflow in float64, all numbers in float32.
    tiny = FLOAT32_TINY if rounded else 1e-150
    steep = (1 + gamma) * unit
    tolerances: dict[str, tuple[float, float]] = {
        "state": (0, 0),
        "prediction": (0, 0),
        "alpha_t": (0, 0),
        "logit_margin": (FLOAT32_EPSILON if rounded else 0, 0),
        "loss": (steep, tiny),
        "log_loss": (1e-12, steep),
        "gradient": gradient_tolerance(dtype, steep),
        "log_odds": (1e-12 + (FLOAT32_EPSILON if rounded else 0), unit),
        "cross_entropy": (unit, tiny),
        "p_t": (unit, tiny),
        "el2n": (2 * unit, tiny),
        "grad_norm": (steep + unit, tiny),
        "normalized_margin": (0, 2 * unit),
        "entropy": (0, 3 * unit),
    }
    for name, (rtol, atol) in tolerances.items():
        if name in result and name in expected:
            ours, exact = result[name], expected[name]
            if ours.dtype == np.float32:
                with np.errstate(over="ignore"):
                    exact = exact.astype(np.float32)
            if name == "loss" and "state" in expected:
                # The loss of a bad row is undefined.
                ours = np.where(np.isnan(ours) & (expected["state"] >= BAD_TARGET), 0, ours)
            assert_near(ours, exact, rtol=rtol, atol=atol, name=f"{name} of {dtype} logits, gamma {gamma}")
    if "confidence_weighted_entropy" in result:
        _assert_confidence_weighted_entropy(result, num_classes=expected["gradient"].shape[1])
    if not rounded and {"entropy", "el2n"} <= result.keys() and "squared" in expected:
        _assert_moments(result, expected, 3 * error)


def gradient_tolerance(dtype: torch.dtype, steep: float) -> tuple[float, float]:
    """Tolerances of a gradient, which has the dtype of the logits: products of its factors may underflow.

    The relative error of exp(x_j - M) is the rounding error of its exponent: 87 / 2 epsilons where float32 underflows.
    """
    if dtype in (torch.float16, torch.bfloat16):
        info = torch.finfo(dtype)
        return info.eps, info.eps * info.tiny
    return (steep, 1e-150) if dtype == torch.float64 else (steep + 44 * FLOAT32_EPSILON, 1e-36)


def _assert_confidence_weighted_entropy(result: Columns, num_classes: int) -> None:
    """Compare with cleanlab's function of our entropy and p_t, as its error may be 10^6 times that of the entropy."""
    ratio = result["entropy"].astype(np.float64) / np.log(num_classes) / np.maximum(result["p_t"], 1e-6)
    expected = np.log1p(ratio) / np.maximum(ratio, 1e-6)
    rtol = 1e-12 if result["entropy"].dtype == np.float64 else 1e-6
    name = "confidence_weighted_entropy"
    assert_near(result[name], expected, rtol=rtol, atol=FLOAT32_TINY, name=name)


def _assert_moments(result: Columns, expected: Mapping[str, Array], tolerance: float) -> None:
    """Compare the sums over the other classes, which are a part of entropy and EL2N."""
    z = result["log_odds"]
    p, other_p = expit(z), expit(-z)
    # In other rows, float64 has too few digits to recover these sums.
    accurate = (result["state"] == COUNTED) & (other_p > 1e-15 / tolerance)
    if not accurate.any():
        return
    p, other_p, z = p[accurate], other_p[accurate], z[accurate]
    squared = (result["el2n"][accurate] / other_p) ** 2 - 1
    assert_near(squared, expected["squared"][accurate], rtol=tolerance, atol=1e-15, name="squared")
    of_label = p * np.logaddexp(0, -z) + other_p * np.logaddexp(0, z)
    others = (result["entropy"][accurate] - of_label) / other_p
    assert_near(others, expected["entropy_of_others"][accurate], rtol=0, atol=2 * tolerance, name="entropy of others")


def assert_equals_oracle(
    implementation: Implementation, logits: Tensor, targets: Tensor, gamma: float = 2.0, **config: Any
) -> Columns:
    """Assert that an implementation equals `oracles.softmax_scores` in the rows that it supports."""
    options = {"weights": config.get("alpha"), "ignore_index": config.get("ignore_index", -100)}
    expected = oracles.softmax_scores(logits, targets, gamma, **options)
    if "bad_rows" in implementation.lacks:
        good = expected["state"] < BAD_TARGET
        logits, targets = logits[torch.from_numpy(good)], targets[torch.from_numpy(good)]
        expected = {name: values[good] for name, values in expected.items()}
    result = implementation.score(logits, targets, gamma=gamma, **config)
    assert_scores(implementation, result, expected, logits.dtype, gamma=gamma)
    return result
