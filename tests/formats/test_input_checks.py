"""Probabilities and their logarithms in place of logits are noticed; logits and toy data are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from service.diagnostics.chunks import softmax
from service.formats.input_checks import MIN_LABELS, ROWS_CHECKED, input_warning, unlikely_logits
from service.schema.config import Mode
from service.schema.result import WarningCode

LOGITS = np.random.default_rng(0).normal(size=(200, 10)) * 3
P = softmax(LOGITS)
P_OF_LABELS = 1 / (1 + np.exp(-LOGITS))
SEVERAL = P_OF_LABELS.reshape(20, 10, 10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [2, 3, 200])
def test_rows_of_classes_are_noticed(dtype: type, rows: int) -> None:
    assert unlikely_logits(P[:rows].astype(dtype), "softmax") == "probabilities_as_logits"
    assert unlikely_logits(-np.log(P[:rows]).astype(dtype), "softmax") == "log_probabilities_as_logits"


def test_probabilities_of_many_classes_in_half_precision_are_noticed() -> None:
    p = softmax(np.random.default_rng(1).normal(size=(8, 5000)))
    assert unlikely_logits(p.astype(np.float16), "softmax") == "probabilities_as_logits"


def test_undecided_rows_are_told_apart() -> None:
    # Of two classes all negative log-probabilities near log 2 lie in [0, 1], as probabilities do.
    p = np.linspace(0.4, 0.6, 20)
    rows = np.stack([p, 1 - p], axis=1)
    assert unlikely_logits(rows, "softmax") == "probabilities_as_logits"
    assert unlikely_logits(-np.log(rows), "softmax") == "log_probabilities_as_logits"


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        np.log(P),  # softmax(log p) = p
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
def test_other_rows_of_classes_are_not(logits: np.ndarray) -> None:
    assert unlikely_logits(logits, "softmax") is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [P_OF_LABELS, P_OF_LABELS[:, 0], P_OF_LABELS[:, :1], SEVERAL, SEVERAL[:, :1, :]])
def test_labels_are_noticed(p: np.ndarray, dtype: type) -> None:
    assert unlikely_logits(p.astype(dtype), "sigmoid") == "probabilities_as_logits"
    assert unlikely_logits(np.log(p).astype(dtype), "sigmoid") == "log_probabilities_as_logits"


RARE = np.random.default_rng(3).normal(-6, 1, (200, 10))


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        LOGITS[:, 0],
        RARE,  # No label is predicted.
        np.log(1 / (1 + np.exp(-RARE))),  # Cannot be told from it.
        P_OF_LABELS[: MIN_LABELS - 1, 0],
        np.zeros((200, 10)),
        np.full((200, 10), np.nan),
        np.random.default_rng(4).normal(0.4, 0.05, (200, 10)),  # An untrained model whose bias follows the labels.
        -np.abs(LOGITS) - 0.5,
        np.random.default_rng(5).normal(0, 0.05, (200, 10)),
        np.vstack([P_OF_LABELS[:5], LOGITS[:5], P_OF_LABELS[5:]]),
    ],
)
def test_other_labels_are_not(logits: np.ndarray) -> None:
    assert unlikely_logits(logits, "sigmoid") is None


def test_the_messages_say_what_to_send() -> None:
    def message(code: WarningCode, mode: Mode) -> str:
        return input_warning(0, code, mode).message

    assert "each row adds up to 1" in message("probabilities_as_logits", "softmax")
    assert "the logarithms of the probabilities" in message("log_probabilities_as_logits", "softmax")
    assert "log(p / (1 - p))" in message("probabilities_as_logits", "sigmoid")
    assert "log-probabilities" in message("log_probabilities_as_logits", "sigmoid")
