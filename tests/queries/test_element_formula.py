"""Losses of elements from their log-odds, against the formula of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from service.queries.element_formula import BLOCK, ElementFormula, p_of
from service.queries.weighting import Weighting
from service.schema.config import LossConfig
from service.schema.structure import Task

NUMBER, LABELS = BLOCK + 7, 3
SOFTMAX, SIGMOID = {"mode": "softmax"}, {"mode": "sigmoid"}
ASYMMETRIC = {"mode": "sigmoid", "gamma_negative": 4.0, "clip": 0.05}


def formula(config: dict[str, Any], alpha: tuple[float, ...] | None, gamma: float, task: Task) -> ElementFormula:
    return ElementFormula(LossConfig.parse(config), task, Weighting(alpha, gamma))


def by_probability(
    targets: NDArray[np.int32], z: NDArray[np.float32], alpha: Any, gamma: Any, clip: float
) -> NDArray[np.float64]:
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    p = np.where(targets == 0, np.minimum(p + clip, 1), p)
    loss: NDArray[np.float64] = alpha * (1 - p) ** gamma * -np.log(p)
    return loss


@pytest.mark.parametrize(
    ("config", "task", "alpha", "gamma"),
    [
        (SOFTMAX, "masks", None, 0.0),
        (SOFTMAX, "masks", None, 2.0),
        (SOFTMAX, "tokens", (0.5, 0.0, 3.0), 1.5),
        (SIGMOID, "multi_label", None, 2.0),
        (SIGMOID, "multi_label", (0.25,), 2.0),
        (SIGMOID, "multi_label", (0.25, 0.5, 1.0), 0.0),
        (ASYMMETRIC, "multi_label", None, 1.0),
        (ASYMMETRIC, "multi_label", (0.25, 0.5, 1.0), 0.0),
    ],
)
def test_losses_are_those_of_the_probabilities(
    config: dict[str, Any], task: Task, alpha: tuple[float, ...] | None, gamma: float
) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2 if task == "multi_label" else 3, NUMBER, dtype=np.int32)
    z = np.where(targets < 0, 0, rng.normal(0, 4, NUMBER)).astype(np.float32)
    weights: Any = 1.0
    if alpha is not None:
        table = np.array(alpha)
        of_label = table[np.arange(NUMBER) % len(table)]
        weights = table[targets] if task != "multi_label" else np.where(targets == 1, of_label, 1 - of_label)
    gammas = np.where(targets == 0, config.get("gamma_negative", gamma), gamma)
    clip = config.get("clip", 0.0) if task == "multi_label" else 0.0
    expected = np.where(targets < 0, 0, by_probability(targets, z, weights, gammas, clip))
    computed = formula(config, alpha, gamma, task)
    loss, cross_entropy = computed.losses(targets, z)
    assert_allclose(loss, expected, rtol=1e-6, atol=1e-12)
    assert_allclose(cross_entropy, np.where(targets < 0, 0, -np.log(p_of(z))), rtol=1e-9)
    places = np.flatnonzero(expected > 1e-9)[::3]
    assert_allclose(computed.log_losses(targets, z, places), np.log(loss[places]), rtol=1e-9)


@pytest.mark.parametrize(
    ("config", "gamma", "target", "z", "loss", "log_loss"),
    [
        (SOFTMAX, 2.0, 1, 1000.0, 0.0, -3000.0),
        (SOFTMAX, 0.0, 1, np.inf, 0.0, -1e30),
        (SOFTMAX, 2.0, 1, -1000.0, 1000.0, np.log(1000.0)),
        (SOFTMAX, 2.0, -1, 0.0, 0.0, -np.inf),
        # The probability of a negative label is below `clip`: no loss, whatever gamma is.
        (ASYMMETRIC, 1.0, 0, 30.0, 0.0, -np.inf),
        ({**ASYMMETRIC, "gamma_negative": 0.0}, 1.0, 0, 30.0, 0.0, -np.inf),
        (ASYMMETRIC, 1.0, 1, 1000.0, 0.0, -2000.0),
    ],
)
def test_extreme_log_odds(
    config: dict[str, Any], gamma: float, target: int, z: float, loss: float, log_loss: float
) -> None:
    computed = formula(config, None, gamma, "multi_label")
    targets, log_odds = np.array([target], np.int32), np.array([z], np.float32)
    assert computed.losses(targets, log_odds)[0].tolist() == pytest.approx([loss])
    assert computed.log_losses(targets, log_odds, np.array([0])).tolist() == pytest.approx([log_loss])
