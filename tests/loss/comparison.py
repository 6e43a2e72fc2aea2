"""How near an implementation has to come to an oracle."""

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
    """Equal to a tolerance; infinities and NaN where the exact values have them."""
    found, expected = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    if found.shape == expected.shape:
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= atol + rtol * np.abs(expected)
        near = (near & np.isfinite(expected)) | (found == expected) | (np.isnan(found) & np.isnan(expected))
        if near.all():
            return
    # The same by numpy, which takes many times as long, and says where they differ.
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=name)
    raise AssertionError(name)


def assert_scores(
    implementation: Implementation,
    found: Columns,
    expected: Mapping[str, Array],
    dtype: torch.dtype,
    *,
    gamma: float,
) -> None:
    """Every column that both have is right, for logits of a dtype.

    All errors follow from that of z: d log FL / dz lies between -(gamma + 1) and 0. A result that is rounded to float32
    may underflow or overflow there.
    """
    rounded = implementation.rounds and dtype != torch.float64
    error = 1e-12 if dtype == torch.float64 else implementation.error
    unit = error + (FLOAT32_EPSILON if rounded else 0)
    # The smallest normal numbers: of float64 sums of squares underflow, of float32 anything does.
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
        if name in found and name in expected:
            ours, exact = found[name], expected[name]
            if ours.dtype == np.float32:
                with np.errstate(over="ignore"):
                    exact = exact.astype(np.float32)
            if name == "loss" and "state" in expected:
                # Nothing is known of the loss of a bad row.
                ours = np.where(np.isnan(ours) & (expected["state"] >= BAD_TARGET), 0, ours)
            assert_near(ours, exact, rtol=rtol, atol=atol, name=f"{name} of {dtype} logits, gamma {gamma}")
    if "confidence_weighted_entropy" in found:
        _assert_confidence_weighted_entropy(found, num_classes=expected["gradient"].shape[1])
    if not rounded and {"entropy", "el2n"} <= found.keys() and "squared" in expected:
        _assert_moments(found, expected, 3 * error)


def gradient_tolerance(dtype: torch.dtype, steep: float) -> tuple[float, float]:
    """A gradient has the dtype of the logits, and products of its factors may underflow in it.

    exp(x_j - M) has the rounding of its exponent as its relative error: 87 / 2 epsilons where float32 underflows.
    """
    if dtype in (torch.float16, torch.bfloat16):
        info = torch.finfo(dtype)
        return info.eps, info.eps * info.tiny
    return (steep, 1e-150) if dtype == torch.float64 else (steep + 44 * FLOAT32_EPSILON, 1e-36)


def _assert_confidence_weighted_entropy(found: Columns, num_classes: int) -> None:
    """It is cleanlab's function of entropy and p_t; its own error may be 10^6 times that of the entropy."""
    ratio = found["entropy"].astype(np.float64) / np.log(num_classes) / np.maximum(found["p_t"], 1e-6)
    expected = np.log1p(ratio) / np.maximum(ratio, 1e-6)
    rtol = 1e-12 if found["entropy"].dtype == np.float64 else 1e-6
    name = "confidence_weighted_entropy"
    assert_near(found[name], expected, rtol=rtol, atol=FLOAT32_TINY, name=name)


def _assert_moments(found: Columns, expected: Mapping[str, Array], tolerance: float) -> None:
    """The sums over the other classes, which entropy and EL2N contain, by themselves."""
    z = found["log_odds"]
    p, rest = expit(z), expit(-z)
    # Elsewhere float64 does not hold enough of them.
    known = (found["state"] == COUNTED) & (rest > 1e-15 / tolerance)
    if not known.any():
        return
    p, rest, z = p[known], rest[known], z[known]
    squared = (found["el2n"][known] / rest) ** 2 - 1
    assert_near(squared, expected["squared"][known], rtol=tolerance, atol=1e-15, name="squared")
    of_label = p * np.logaddexp(0, -z) + rest * np.logaddexp(0, z)
    others = (found["entropy"][known] - of_label) / rest
    assert_near(others, expected["entropy_of_others"][known], rtol=0, atol=2 * tolerance, name="entropy of others")


def assert_equals_oracle(
    implementation: Implementation, logits: Tensor, targets: Tensor, gamma: float = 2.0, **config: Any
) -> Columns:
    """What an implementation finds equals `oracles.softmax_scores`; rows that it does not take are left out."""
    options = {"weights": config.get("alpha"), "ignore_index": config.get("ignore_index", -100)}
    expected = oracles.softmax_scores(logits, targets, gamma, **options)
    if "bad_rows" in implementation.lacks:
        good = expected["state"] < BAD_TARGET
        logits, targets = logits[torch.from_numpy(good)], targets[torch.from_numpy(good)]
        expected = {name: values[good] for name, values in expected.items()}
    found = implementation.score(logits, targets, gamma=gamma, **config)
    assert_scores(implementation, found, expected, logits.dtype, gamma=gamma)
    return found
