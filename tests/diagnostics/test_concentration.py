"""Gini coefficient, Lorenz curve, top shares and histogram against their definitions in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.diagnostics.concentration import concentration, histogram
from service.queries.weighting import Weighting
from service.schema.replies.diagnostics import Concentration, Histogram
from tests.runs.temp_runs import TempRuns, noisy, scored, temp_runs
from tests.strategies import at_most

FOCAL = Weighting((1.0, 2.0, 0.25), 2.0)


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as store:
        store.create()
        yield store


def measure(runs: TempRuns, weighting: Weighting = FOCAL, epoch: int = 0) -> tuple[Concentration, Histogram]:
    return runs.ask(lambda view: (concentration(view, weighting, epoch), histogram(view, weighting, epoch)))


def losses(runs: TempRuns, weighting: Weighting = FOCAL, epoch: int = 0) -> np.ndarray:
    return np.sort([row["loss"] for row in scored(runs.raw(epoch=epoch), weighting.alpha, weighting.gamma)])


def assert_concentration(shares: Concentration, x: np.ndarray) -> None:
    """Compare with the definitions; x is ascending."""
    n, total = len(x), x.sum()
    # Mean absolute difference of all pairs, divided by twice the mean.
    assert shares["gini"] == pytest.approx(np.abs(x[:, None] - x).sum() / (2 * n * total), abs=1e-12)
    for percent in (1, 5, 10):
        hardest = x[-math.ceil(n * percent / 100) :]
        assert shares[f"top_{percent}_percent"] == pytest.approx(hardest.sum() / total, rel=1e-12)
    cumulative = np.concatenate([[0], np.cumsum(x)]) / total
    lorenz = shares["lorenz"]
    assert lorenz[0] == [0, 0]
    assert lorenz[-1] == [1, pytest.approx(1)]
    assert len(lorenz) == min(n, 100) + 1
    for examples, share in lorenz:
        assert examples * n == pytest.approx(round(examples * n))
        assert share == pytest.approx(cumulative[round(examples * n)], abs=1e-12)
    steps = {math.floor(step * n / 100) / n for step in range(101)}
    assert [examples for examples, _ in lorenz] == pytest.approx(sorted(steps))


def assert_histogram(bins: Histogram, x: np.ndarray) -> None:
    edges, counts = bins["edges"], bins["counts"]
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(x[-1], rel=1e-12)
    np.testing.assert_allclose(np.diff(np.log10(edges[1:])), 0.25, rtol=1e-9)
    assert len(edges) == 34
    assert counts == np.histogram(np.minimum(x, edges[-1]), edges)[0].tolist()
    assert sum(counts) == len(x)


@pytest.mark.slow
@at_most(20, deadline=None)
@given(st.integers(1, 350), st.integers(0, 100), st.sampled_from([0.1, 2.0, 30.0]), st.sampled_from([0.0, 0.5, 5.0]))
def test_any_losses(rows: int, seed: int, spread: float, gamma: float) -> None:
    weighting = Weighting((1.0, 2.0, 0.0), gamma)
    with temp_runs() as runs:
        runs.create()
        runs.put(*noisy(rows, 3, seed, spread=spread))
        x = losses(runs, weighting)
        shares, bins = measure(runs, weighting)
    if x.sum() > 1e-290:
        assert_concentration(shares, x)
        assert_histogram(bins, x)


def test_equal_losses_and_one_row(runs: TempRuns) -> None:
    runs.put(np.zeros((1, 3)), [0])
    shares, bins = measure(runs)
    assert shares == {
        "gini": 0,
        "lorenz": [[0, 0], [1, 1]],
        "top_1_percent": 1,
        "top_5_percent": 1,
        "top_10_percent": 1,
    }
    assert bins["counts"] == [0] * 32 + [1]
    runs.put(np.zeros((200, 3)), [0] * 200, epoch=1)
    shares, bins = measure(runs, epoch=1)
    assert shares["gini"] == pytest.approx(0, abs=1e-12)
    assert [shares[f"top_{percent}_percent"] for percent in (1, 5, 10)] == pytest.approx([0.01, 0.05, 0.1])
    np.testing.assert_allclose(shares["lorenz"], np.stack([np.linspace(0, 1, 101)] * 2, axis=1), atol=1e-12)
    assert bins["counts"] == [0] * 32 + [200]


def test_all_of_the_loss_in_one_row(runs: TempRuns) -> None:
    runs.put([[0.0, 3000], *[[3000, 0.0]] * 199], [0] * 200)
    shares, bins = measure(runs, Weighting(None, 2.0))
    assert shares["gini"] == pytest.approx(1 - 1 / 200)
    assert (shares["top_1_percent"], shares["lorenz"][-2]) == (1, [0.99, 0])
    assert (bins["counts"][0], bins["counts"][-1]) == (199, 1)
    assert bins["edges"][1] == pytest.approx(3000e-8)


def test_a_loss_on_an_edge_is_in_the_bin_above_and_the_largest_in_the_last(runs: TempRuns) -> None:
    runs.put(np.zeros((3, 3)), [0, 1, 2])
    bins = measure(runs, Weighting((1.0, 0.1, 1e-9), 0.0))[1]
    assert bins["edges"][29] == bins["edges"][-1] * 0.1
    assert {place: number for place, number in enumerate(bins["counts"]) if number} == {0: 1, 29: 1, 32: 1}


@pytest.mark.parametrize("weighting", [Weighting((0.0, 1.0), 2.0), Weighting(None, 2.0)])
@pytest.mark.parametrize("rows", [0, 3])
def test_a_loss_of_zero_has_no_concentration(weighting: Weighting, rows: int) -> None:
    with temp_runs() as runs:
        runs.create()
        if rows:
            runs.put([[9000.0, 0]] * rows, [0] * rows)
        shares, bins = measure(runs, weighting)
    assert set(shares) == {"gini", "lorenz", "top_1_percent", "top_5_percent", "top_10_percent"}
    assert set(shares.values()) == {None}
    assert bins == {"edges": [], "counts": []}


def test_a_loss_beyond_float64_has_no_concentration(runs: TempRuns) -> None:
    runs.put([[0.0, 60000], [0.0, 1]], [0, 0])
    shares, bins = measure(runs, Weighting((1e308, 1.0), 2.0))
    assert (shares["gini"], bins["edges"]) == (None, [])
    orjson.dumps([shares, bins])
