"""Calibration against a loop over bins, and temperatures against minimisers of scipy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.diagnostics.calibration import MAX_PASSES, calibration
from service.diagnostics.chunks import Chunk, Floats
from service.schema.replies.diagnostics import Calibration
from tests.diagnostics.samples import DataSet, data_set, data_sets, random_data_set
from tests.lanes import mostly_slow


def calibration_of(data: DataSet, size: int | None = None, bins: int = 15) -> Calibration:
    return calibration(data.chunks(size), bins)


def calibration_and_passes(data: DataSet) -> tuple[Calibration, int]:
    passes = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal passes
        passes += 1
        yield data.whole()

    result = calibration(chunks)
    return result, passes


def mean_nll(data: DataSet, beta: float = 1) -> float:
    log_p = scipy.special.log_softmax(beta * data.logits, axis=1)
    return float(-log_p[np.arange(len(data.targets)), data.targets].mean())


def best_temperature(data: DataSet) -> float:
    """Minimise over log T; accurate to about half of the digits of float64."""
    minimum = scipy.optimize.minimize_scalar(
        lambda u: mean_nll(data, math.exp(-u)), bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}
    )
    return math.exp(minimum.x)


def ece_by_loop(data: DataSet, bins: int) -> float:
    rows = [(max(p), list(p).index(max(p)) == y) for p, y in zip(data.p.tolist(), data.targets.tolist(), strict=True)]
    total = 0.0
    for lower, upper in zip(np.linspace(0, 1, bins + 1)[:-1], np.linspace(0, 1, bins + 1)[1:], strict=True):
        inside = [(confidence, hit) for confidence, hit in rows if lower < confidence <= upper]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            total += len(inside) / len(rows) * abs(accuracy - sum(c for c, _ in inside) / len(inside))
    return total


def test_bins_by_hand() -> None:
    # 0.5 is in the bin (0.25, 0.5]; of equal probabilities the first is the prediction.
    data = data_set([0, 1, 0, 1], [[0.5, 0.5], [0.5, 0.5], [0.875, 0.125], [0.875, 0.125]])
    result = calibration_of(data, bins=4)
    bins = [(b["lower"], b["upper"], b["count"], b["accuracy"], b["confidence"]) for b in result["bins"]]
    assert bins == [
        (0, 0.25, 0, None, None),
        (0.25, 0.5, 2, 0.5, 0.5),
        (0.5, 0.75, 0, None, None),
        (0.75, 1, 2, 0.5, 0.875),
    ]
    assert (result["num_examples"], result["accuracy"], result["confidence"], result["ece"]) == (4, 0.5, 0.6875, 0.1875)


def test_full_confidence_is_in_the_last_bin() -> None:
    result = calibration_of(data_set([0, 1], [[1, 0], [0, 1]]))
    assert (result["bins"][-1]["count"], result["bins"][-1]["confidence"], result["ece"]) == (2, 1, 0)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("signal", [0, 2, 6])
def test_ece_equals_that_of_the_loop(bins: int, signal: float) -> None:
    data = random_data_set(400, 5, 0, signal=signal)
    assert calibration_of(data, 64, bins)["ece"] == pytest.approx(ece_by_loop(data, bins), abs=1e-14)


@settings(deadline=None)
@given(data_sets(), st.integers(1, 20), st.sampled_from([1, 7, None]))
def test_bins_hold_every_row_and_add_up_to_the_error(data: DataSet, bins: int, size: int | None) -> None:
    result = calibration_of(data, size, bins)
    n = len(data.targets)
    assert sum(b["count"] for b in result["bins"]) == result["num_examples"] == n
    assert result["accuracy"] == (data.p.argmax(axis=1) == data.targets).mean()
    assert result["confidence"] == pytest.approx(data.p.max(axis=1).mean(), abs=1e-14)
    assert result["ece"] == pytest.approx(ece_by_loop(data, bins), abs=1e-14)
    assert result["nll"] == pytest.approx(mean_nll(data), abs=1e-12)


def test_temperature_equals_that_of_lbfgs_on_torchs_cross_entropy() -> None:
    data = random_data_set(300, 4, 5)
    logits, targets = torch.tensor(data.logits), torch.tensor(data.targets)

    def loss_and_slope(values: Floats) -> tuple[float, Floats]:
        temperature = torch.tensor(values, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(logits / temperature, targets)
        (slope,) = torch.autograd.grad(loss, temperature)
        return loss.item(), slope.numpy()

    # L-BFGS of scipy, as the first step of torch's L-BFGS imports a compiler, which takes seconds.
    options = {"ftol": 1e-15, "gtol": 1e-12}
    minimum = scipy.optimize.minimize(loss_and_slope, np.ones(1), method="L-BFGS-B", jac=True, options=options)
    assert calibration_of(data)["temperature"] == pytest.approx(minimum.x.item(), rel=1e-6)


@pytest.mark.parametrize("seed", mostly_slow(range(5), quick=1))
@pytest.mark.parametrize("scale", [1e-3, 0.2, 1, 5, 1e3])
@pytest.mark.parametrize("signal", [1, 4])
def test_temperature_equals_that_of_the_minimiser(signal: float, scale: float, seed: int) -> None:
    unscaled = random_data_set(300, 2 + seed * 3, seed, signal=signal)
    data = DataSet(unscaled.targets, unscaled.logits * scale)
    result = calibration_of(data, 100)
    expected = best_temperature(data)
    assert result["temperature"] == pytest.approx(expected, rel=1e-6)
    assert result["nll"] == pytest.approx(mean_nll(data), rel=1e-12)
    assert result["nll_scaled"] == pytest.approx(mean_nll(data, 1 / expected), rel=1e-12)
    assert result["nll_scaled"] is not None
    assert result["nll"] is not None
    assert result["nll_scaled"] <= result["nll"]


@settings(deadline=None)
@given(data_sets())
def test_no_temperature_is_better(data: DataSet) -> None:
    result = calibration_of(data)
    if result["temperature"] is None:
        # The cross-entropy falls monotonically towards T = 0 or infinity.
        values = [mean_nll(data, beta) for beta in np.geomspace(1e-3, 1e3, 13)]
        signs = np.sign([round(b - a, 12) for a, b in pairwise(values)])
        assert {-1.0, 1.0} - set(signs.tolist())
    else:
        beta = 1 / result["temperature"]
        assert result["nll_scaled"] == pytest.approx(mean_nll(data, beta), abs=1e-12)
        for other in (0.5, 0.99, 1.01, 2):
            assert result["nll_scaled"] <= mean_nll(data, beta * other) + 1e-12


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(10))
def test_a_temperature_of_any_size_takes_few_passes(spread: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = random_data_set(200, 6, seed)
    data = DataSet(data.targets, data.logits * spread * 10 ** generator.uniform(-2, 2, (200, 1)))
    result, passes = calibration_and_passes(data)
    assert passes <= MAX_PASSES
    assert result["temperature"] is not None
    beta = 1 / result["temperature"]
    log_p = scipy.special.log_softmax(data.logits * beta, axis=1)
    gaps: Floats = data.logits.max(axis=1, keepdims=True) - data.logits
    rise = gaps[np.arange(200), data.targets].sum()
    # At the minimum the mean gap of the target equals its expectation under the model.
    assert (np.exp(log_p) * gaps).sum() == pytest.approx(rise, rel=1e-6)


def test_one_wrong_row_in_a_hundred_thousand() -> None:
    logits = np.tile([1.0, 0], (100_000, 1))
    targets = np.zeros(100_000, dtype=np.int64)
    targets[0] = 1
    result = calibration_of(DataSet(targets, logits), 9999)
    # sigmoid(1 / T) equals the share of right rows.
    assert result["temperature"] == pytest.approx(1 / math.log(99_999), rel=1e-9)


def test_the_search_recovers_from_a_step_that_is_too_large() -> None:
    # With 1000 classes the expected gap falls slowly at first, and Newton's step reaches a beta where it underflows.
    logits = np.zeros((100, 1000))
    logits[:, 0] = 1
    targets = np.zeros(100, dtype=np.int64)
    targets[0] = 1
    result, passes = calibration_and_passes(DataSet(targets, logits))
    # One row in a hundred is wrong: 999 exp(-1 / T) = 1 / 99.
    assert result["temperature"] == pytest.approx(1 / math.log(999 * 99), rel=1e-7)
    assert passes == 5


def test_the_search_stops_if_squares_underflow() -> None:
    data = random_data_set(50, 3, 0)
    result, passes = calibration_and_passes(DataSet(data.targets, data.logits * 1e-200))
    assert (result["temperature"], result["nll_scaled"], passes) == (None, None, MAX_PASSES)


def test_a_masked_class_changes_nothing() -> None:
    data = random_data_set(200, 3, 0)
    wide = DataSet(data.targets, np.hstack([data.logits, np.full((200, 1), -np.inf)]))
    result, plain = calibration_of(wide), calibration_of(data)
    assert result["temperature"] == pytest.approx(plain["temperature"], rel=1e-12)
    assert (result["nll"], result["ece"]) == (
        pytest.approx(plain["nll"], rel=1e-12),
        pytest.approx(plain["ece"], rel=1e-12),
    )


@pytest.mark.parametrize(
    ("targets", "logits"),
    [
        ([0, 1], [[2, 1], [0, 3]]),  # all right
        ([0, 1], [[2, 2], [3, 3]]),  # all tied
        ([1, 0], [[2, 1], [0, 3]]),  # all wrong
        ([0, 1, 2], 3 * [[0.1, 0.2, 0.4]]),  # exactly chance
        ([0, 0], [[1], [2]]),  # one class
    ],
)
def test_no_temperature(targets: list[int], logits: list[list[float]]) -> None:
    data = DataSet(np.array(targets), np.array(logits))
    result = calibration_of(data)
    assert (result["temperature"], result["nll_scaled"]) == (None, None)
    assert result["nll"] == pytest.approx(mean_nll(data))


@pytest.mark.parametrize("rows", [[], [Chunk(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))]])
def test_no_rows(rows: list[Chunk]) -> None:
    result = calibration(lambda: rows)
    assert [b["count"] for b in result["bins"]] == 15 * [0]
    assert (result["num_examples"], result["ece"], result["accuracy"], result["confidence"]) == (0, None, None, None)
    assert (result["nll"], result["temperature"], result["nll_scaled"]) == (None, None, None)


def test_float32_logits_are_converted_exactly() -> None:
    data = random_data_set(100, 4, 0)
    short = DataSet(data.targets, data.logits.astype(np.float32))
    assert calibration_of(short) == calibration_of(DataSet(short.targets, short.logits.astype(np.float64)))


def test_chunks_change_the_last_digits_of_the_temperature_only() -> None:
    data = random_data_set(2000, 4, 0)
    whole, small = calibration_of(data), calibration_of(data, 7)
    assert (whole["bins"], whole["ece"], whole["confidence"]) == (small["bins"], small["ece"], small["confidence"])
    assert small["temperature"] == pytest.approx(whole["temperature"], rel=1e-12)
    assert small["nll"] == pytest.approx(whole["nll"], rel=1e-13)
