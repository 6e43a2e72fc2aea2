"""Probabilities in place of logits are noticed; logits, log-probabilities and toy data are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from service.diagnostics.chunks import softmax
from service.formats.input_checks import ROWS_CHECKED, look_like_probabilities

LOGITS = np.random.default_rng(0).normal(size=(200, 10)) * 3
P = softmax(LOGITS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [2, 3, 200])
def test_probabilities_are_noticed(dtype: type, rows: int) -> None:
    assert look_like_probabilities(P[:rows].astype(dtype))


def test_probabilities_of_many_classes_in_half_precision_are_noticed() -> None:
    p = softmax(np.random.default_rng(1).normal(size=(8, 5000)))
    assert look_like_probabilities(p.astype(np.float16))


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        np.log(P),
        np.abs(LOGITS),
        P * 2,
        P - 0.01,
        P[:1],
        P[:0],
        np.eye(3),
        np.zeros((4, 3)),
        np.full((4, 3), np.nan),
        np.vstack([P[:5], LOGITS[:1]]),
        np.vstack([P[: ROWS_CHECKED - 1], LOGITS[:1]]),
        np.random.default_rng(2).random((50, 10)),
    ],
)
def test_other_numbers_are_not(logits: np.ndarray) -> None:
    assert not look_like_probabilities(logits)
