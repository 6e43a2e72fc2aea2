"""Calibration against a loop over bins, scipy's minimiser and torch's."""

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


def calibration_of(data: DataSet, size: int | None = None, bins: int = 15) -> Calibration:
    return calibration(data.chunks(size), bins)


def calibration_and_passes(data: DataSet) -> tuple[Calibration, int]:
    passes = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal passes
        passes += 1
        yield data.whole()

    found = calibration(chunks)
    return found, passes


def mean_nll(data: DataSet, beta: float = 1) -> float:
    log_p = scipy.special.log_softmax(beta * data.logits, axis=1)
    return float(-log_p[np.arange(len(data.targets)), data.targets].mean())


def best_temperature(data: DataSet) -> float:
    """By a search over log T, to about half of float64's digits."""
    found = scipy.optimize.minimize_scalar(
        lambda u: mean_nll(data, math.exp(-u)), bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}
    )
    return math.exp(found.x)


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
    # 0.5 closes the bin (0.25, 0.5]; of equal probabilities the first is the prediction.
    data = data_set([0, 1, 0, 1], [[0.5, 0.5], [0.5, 0.5], [0.875, 0.125], [0.875, 0.125]])
    found = calibration_of(data, bins=4)
    listed = [(b["lower"], b["upper"], b["count"], b["accuracy"], b["confidence"]) for b in found["bins"]]
    assert listed == [
        (0, 0.25, 0, None, None),
        (0.25, 0.5, 2, 0.5, 0.5),
        (0.5, 0.75, 0, None, None),
        (0.75, 1, 2, 0.5, 0.875),
    ]
    assert (found["num_examples"], found["accuracy"], found["confidence"], found["ece"]) == (4, 0.5, 0.6875, 0.1875)


def test_full_confidence_lies_in_the_last_bin() -> None:
    found = calibration_of(data_set([0, 1], [[1, 0], [0, 1]]))
    assert (found["bins"][-1]["count"], found["bins"][-1]["confidence"], found["ece"]) == (2, 1, 0)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("signal", [0, 2, 6])
def test_ece_is_that_of_the_loop(bins: int, signal: float) -> None:
    data = random_data_set(400, 5, 0, signal=signal)
    assert calibration_of(data, 64, bins)["ece"] == pytest.approx(ece_by_loop(data, bins), abs=1e-14)


@settings(deadline=None)
@given(data_sets(), st.integers(1, 20), st.sampled_from([1, 7, None]))
def test_bins_hold_every_row_and_add_up_to_the_error(data: DataSet, bins: int, size: int | None) -> None:
    found = calibration_of(data, size, bins)
    n = len(data.targets)
    assert sum(b["count"] for b in found["bins"]) == found["num_examples"] == n
    assert found["accuracy"] == (data.p.argmax(axis=1) == data.targets).mean()
    assert found["confidence"] == pytest.approx(data.p.max(axis=1).mean(), abs=1e-14)
    assert found["ece"] == pytest.approx(ece_by_loop(data, bins), abs=1e-14)
    assert found["nll"] == pytest.approx(mean_nll(data), abs=1e-12)


def test_temperature_is_that_of_lbfgs_on_torchs_cross_entropy() -> None:
    data = random_data_set(300, 4, 5)
    logits, targets = torch.tensor(data.logits), torch.tensor(data.targets)

    def loss_and_slope(values: Floats) -> tuple[float, Floats]:
        temperature = torch.tensor(values, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(logits / temperature, targets)
        (slope,) = torch.autograd.grad(loss, temperature)
        return loss.item(), slope.numpy()

    # scipy's L-BFGS, since the first step of torch's own imports a compiler, which takes seconds.
    options = {"ftol": 1e-15, "gtol": 1e-12}
    found = scipy.optimize.minimize(loss_and_slope, np.ones(1), method="L-BFGS-B", jac=True, options=options)
    assert calibration_of(data)["temperature"] == pytest.approx(found.x.item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-3, 0.2, 1, 5, 1e3])
@pytest.mark.parametrize("signal", [1, 4])
def test_temperature_is_the_minimisers(signal: float, scale: float, seed: int) -> None:
    unscaled = random_data_set(300, 2 + seed * 3, seed, signal=signal)
    data = DataSet(unscaled.targets, unscaled.logits * scale)
    found = calibration_of(data, 100)
    expected = best_temperature(data)
    assert found["temperature"] == pytest.approx(expected, rel=1e-6)
    assert found["nll"] == pytest.approx(mean_nll(data), rel=1e-12)
    assert found["nll_scaled"] == pytest.approx(mean_nll(data, 1 / expected), rel=1e-12)
    assert found["nll_scaled"] is not None
    assert found["nll"] is not None
    assert found["nll_scaled"] <= found["nll"]


@settings(deadline=None)
@given(data_sets())
def test_no_temperature_is_better(data: DataSet) -> None:
    found = calibration_of(data)
    if found["temperature"] is None:
        # Either end is the best: the cross-entropy only ever falls towards it.
        values = [mean_nll(data, beta) for beta in np.geomspace(1e-3, 1e3, 13)]
        signs = np.sign([round(b - a, 12) for a, b in pairwise(values)])
        assert {-1.0, 1.0} - set(signs.tolist())
    else:
        beta = 1 / found["temperature"]
        assert found["nll_scaled"] == pytest.approx(mean_nll(data, beta), abs=1e-12)
        for other in (0.5, 0.99, 1.01, 2):
            assert found["nll_scaled"] <= mean_nll(data, beta * other) + 1e-12


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(10))
def test_a_temperature_of_any_size_is_found_in_few_passes(spread: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = random_data_set(200, 6, seed)
    data = DataSet(data.targets, data.logits * spread * 10 ** generator.uniform(-2, 2, (200, 1)))
    found, passes = calibration_and_passes(data)
    assert passes <= MAX_PASSES
    assert found["temperature"] is not None
    beta = 1 / found["temperature"]
    log_p = scipy.special.log_softmax(data.logits * beta, axis=1)
    gaps: Floats = data.logits.max(axis=1, keepdims=True) - data.logits
    rise = gaps[np.arange(200), data.targets].sum()
    # At the minimum the mean gap of the target is the one the model expects.
    assert (np.exp(log_p) * gaps).sum() == pytest.approx(rise, rel=1e-6)


def test_one_wrong_row_in_a_hundred_thousand() -> None:
    logits = np.tile([1.0, 0], (100_000, 1))
    targets = np.zeros(100_000, dtype=np.int64)
    targets[0] = 1
    found = calibration_of(DataSet(targets, logits), 9999)
    # sigmoid(1 / T) has to be the share of right rows.
    assert found["temperature"] == pytest.approx(1 / math.log(99_999), rel=1e-9)


def test_a_step_too_far_is_taken_back() -> None:
    # Among 1000 classes the expected gap hardly falls at first, and Newton's step goes to where it underflows.
    logits = np.zeros((100, 1000))
    logits[:, 0] = 1
    targets = np.zeros(100, dtype=np.int64)
    targets[0] = 1
    found, passes = calibration_and_passes(DataSet(targets, logits))
    # One row in a hundred is wrong: 999 exp(-1 / T) = 1 / 99.
    assert found["temperature"] == pytest.approx(1 / math.log(999 * 99), rel=1e-7)
    assert passes == 5


def test_the_search_gives_up_where_squares_underflow() -> None:
    data = random_data_set(50, 3, 0)
    found, passes = calibration_and_passes(DataSet(data.targets, data.logits * 1e-200))
    assert (found["temperature"], found["nll_scaled"], passes) == (None, None, MAX_PASSES)


def test_a_ruled_out_class_changes_nothing() -> None:
    data = random_data_set(200, 3, 0)
    wide = DataSet(data.targets, np.hstack([data.logits, np.full((200, 1), -np.inf)]))
    found, plain = calibration_of(wide), calibration_of(data)
    assert found["temperature"] == pytest.approx(plain["temperature"], rel=1e-12)
    assert (found["nll"], found["ece"]) == (
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
        ([0, 0], [[1], [2]]),  # nothing to choose
    ],
)
def test_no_temperature(targets: list[int], logits: list[list[float]]) -> None:
    data = DataSet(np.array(targets), np.array(logits))
    found = calibration_of(data)
    assert (found["temperature"], found["nll_scaled"]) == (None, None)
    assert found["nll"] == pytest.approx(mean_nll(data))


@pytest.mark.parametrize("rows", [[], [Chunk(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))]])
def test_no_rows(rows: list[Chunk]) -> None:
    found = calibration(lambda: rows)
    assert [b["count"] for b in found["bins"]] == 15 * [0]
    assert (found["num_examples"], found["ece"], found["accuracy"], found["confidence"]) == (0, None, None, None)
    assert (found["nll"], found["temperature"], found["nll_scaled"]) == (None, None, None)


def test_float32_logits_are_read_exactly() -> None:
    data = random_data_set(100, 4, 0)
    short = DataSet(data.targets, data.logits.astype(np.float32))
    assert calibration_of(short) == calibration_of(DataSet(short.targets, short.logits.astype(np.float64)))


def test_chunks_change_the_last_digits_of_the_temperature_only() -> None:
    data = random_data_set(2000, 4, 0)
    whole, small = calibration_of(data), calibration_of(data, 7)
    assert (whole["bins"], whole["ece"], whole["confidence"]) == (small["bins"], small["ece"], small["confidence"])
    assert small["temperature"] == pytest.approx(whole["temperature"], rel=1e-12)
    assert small["nll"] == pytest.approx(whole["nll"], rel=1e-13)
