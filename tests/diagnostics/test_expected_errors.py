"""Predictions of the wrong labels among the next rows, against scipy's optimum and simulated queues."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from service.diagnostics.expected_errors import INTERCEPT_SD, SLOPE_SD, WrongLabelModel


def queue(rng, rows=1000, slope=1.0, level=-1.0):
    scores = np.sort(rng.normal(3, 3, rows))
    wrong = rng.random(rows) < 1 / (1 + np.exp(level + slope * scores))
    return np.stack([np.log(np.arange(1.0, rows + 1)), scores], axis=1), wrong


@pytest.mark.parametrize("judged", [20, 60, 200])
def test_intervals_cover(judged):
    rng, hits, total = np.random.default_rng(judged), 0, 0
    for _ in range(100):
        features, wrong = queue(rng, slope=rng.uniform(0.2, 1.2), level=rng.normal(-1, 1))
        model = WrongLabelModel(features[:judged], wrong[:judged])
        for size, (expected, low, high) in zip((10, 100), model.predict(features[judged:], [10, 100]), strict=True):
            assert 0 <= low <= high <= size
            assert 0 <= expected <= size
            hits += low <= wrong[judged : judged + size].sum() <= high
            total += 1
    assert hits / total >= 0.95


def test_the_mode_is_the_most_likely():
    features, wrong = queue(np.random.default_rng(0), rows=300)
    design = np.column_stack([np.ones(300), (features - features.mean(axis=0)) / features.std(axis=0)])

    def less_likely(coefficients):
        logits = design @ coefficients
        priors = coefficients / [INTERCEPT_SD, SLOPE_SD, SLOPE_SD]
        return np.logaddexp(0, logits).sum() - wrong @ logits + priors @ priors / 2

    fitted = minimize(less_likely, np.zeros(3), tol=1e-10)
    model = WrongLabelModel(features, wrong)
    assert model._mode == pytest.approx(fitted.x, abs=1e-4)


@pytest.mark.parametrize("is_wrong", [True, False])
def test_equal_verdicts_leave_doubt(is_wrong):
    features = np.log(np.arange(1.0, 401))[:, None]
    model = WrongLabelModel(features[:30], np.full(30, is_wrong))
    ((_, low, high),) = model.predict(features[30:], [100])
    assert (high == 100, low == 0) == (is_wrong, not is_wrong)
    assert high - low >= 5


def test_rows_in_parts():
    features, wrong = queue(np.random.default_rng(1), rows=5000)
    model = WrongLabelModel(features[:100], wrong[:100])
    sizes = [1, 999, 1000, 1001, 4900]
    predictions = model.predict(features[100:], sizes)
    assert [size for size, _ in zip(sizes, predictions, strict=True)] == sizes
    assert [low for _, low, _ in predictions] == sorted(low for _, low, _ in predictions)
    assert predictions == model.predict(features[100:], sizes)
