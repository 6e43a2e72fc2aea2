"""Losses in SQL, compared with float64 numpy, 40-digit arithmetic and the service's replies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest

from service.errors import InvalidConfigError, UnknownRunError
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from tests.lanes import mostly_slow
from tests.runs.temp_runs import TempRuns, noisy, scored, temp_runs

INF = math.inf
GAMMAS = (0.0, 0.5, 2.0, 5.0)
ALPHAS = (None, (1.0, 1.0), (0.25, 3.0), (0.0, 1.0))
# Magnitudes from underflow to overflow, with the branch points of the formula at 0 and 30.
MAGNITUDES = (0.0, 1e-30, 1e-6, 0.1, 0.5, 1, 5, 21, 29.999998, 30, 30.000002, 40, 100, 700, 730, 746, 1e3, 1e4)
ODDS = sorted({sign * value for sign in (-1.0, 1.0) for value in MAGNITUDES})


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        yield temp


@pytest.fixture(scope="module")
def odds() -> Iterator[TempRuns]:
    """Two classes, where z is the difference of the logits; both labels, and masks that make it infinite."""
    with temp_runs() as temp:
        temp.create()
        logits = [[0.0, z] for z in ODDS] + [[z, 0.0] for z in ODDS] + [[1.0, -INF], [-INF, 2.0], [0.0, 1e300]]
        targets = [1] * len(ODDS) + [0] * len(ODDS) + [0, 1, 0]
        with np.errstate(over="ignore"):  # the last logit is beyond float32
            temp.put(np.array(logits, dtype=np.float64), targets)
        yield temp


def table(runs: TempRuns, weighting: Weighting, epoch: int | None = None, run: str = "r") -> list[dict[str, Any]]:
    def query(view: View) -> list[dict[str, Any]]:
        return view.rows(f"SELECT * FROM {view.scored(weighting, epoch)} ORDER BY epoch, batch, row")

    return runs.ask(query, run)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_every_score_equals_the_formula(odds: TempRuns, alpha: tuple[float, ...] | None, gamma: float) -> None:
    result, expected = table(odds, Weighting(alpha, gamma)), scored(odds.raw(), alpha, gamma)
    assert len(result) == 2 * len(ODDS) + 3
    for name in ("alpha_t", "cross_entropy", "p_t", "loss", "log_loss"):
        actual, desired = (np.clip([row[name] for row in rows], -1e30, 1e30) for rows in (result, expected))
        np.testing.assert_allclose(actual, desired, rtol=1e-12, atol=1e-318, err_msg=name)
    for name in ("log_odds", "logit_margin", "normalized_margin", "entropy", "el2n"):
        assert [row[name] for row in result] == [row[name] for row in expected], name


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_log_loss_orders_losses_that_underflow(odds: TempRuns, gamma: float) -> None:
    for row in table(odds, Weighting((0.25, 3.0), gamma)):
        if math.isfinite(row["log_odds"]):
            z = mpmath.mpf(row["log_odds"])
            cross_entropy, softplus_z = mpmath.log1p(mpmath.exp(-z)), mpmath.log1p(mpmath.exp(z))
            expected = mpmath.log(row["alpha_t"]) - gamma * softplus_z + mpmath.log(cross_entropy)
            assert row["log_loss"] == pytest.approx(float(expected), rel=1e-13, abs=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_without_class_weights_focal_loss_ranks_as_cross_entropy(odds: TempRuns, gamma: float) -> None:
    rows = [row for row in table(odds, Weighting(None, gamma)) if math.isfinite(row["log_odds"])]
    rows.sort(key=lambda row: row["log_odds"])
    logs = [row["log_loss"] for row in rows]
    assert all(
        first["log_loss"] > second["log_loss"]
        for first, second in pairwise(rows)
        if second["log_odds"] - first["log_odds"] > 1e-7
    )
    assert logs == sorted(logs, reverse=True)


def test_infinite_log_odds_have_the_limits_of_the_scores(odds: TempRuns) -> None:
    masked, _, wrong = table(odds, Weighting(None, 2.0))[-3:]
    assert (masked["log_odds"], masked["p_t"], masked["cross_entropy"], masked["loss"]) == (INF, 1, 0, 0)
    assert (wrong["log_odds"], wrong["p_t"]) == (-INF, 0)
    assert wrong["loss"] == wrong["cross_entropy"] >= 1e29
    assert wrong["log_loss"] > masked["log_loss"]


CONFIGS: list[dict[str, Any]] = [
    {},
    {"gamma": 0},
    {"gamma": 0.5, "alpha": [1, 2.5, 0]},
    {"gamma": 5, "alpha": {"class_counts": [9, 3, 1], "scheme": "effective", "beta": 0.9}},
    {"alpha": {"class_counts": [9, 3, 1]}},
]


@pytest.mark.parametrize("config", mostly_slow(CONFIGS, quick=3))
def test_losses_in_sql_equal_those_of_the_replies_also_under_another_configuration(
    runs: TempRuns, config: dict[str, Any]
) -> None:
    logits, targets = noisy(200, 3, seed=1)
    runs.create(config, "own")
    runs.create(run="other")
    reply_losses = runs.put(logits, targets, run="own").batches[0].per_example["loss"]
    runs.put(logits, targets, run="other")
    own = runs.ask(lambda view: view.weighting(), "own")
    assert own == Weighting.of(runs.store.snapshot("own").description.config)
    shown = [row["loss"] for row in table(runs, own, run="own")]
    np.testing.assert_allclose(shown, reply_losses, rtol=3e-6, atol=1e-30)
    alpha = () if own.alpha is None else own.alpha
    what_if = runs.ask(lambda view: view.weighting(alpha, own.gamma), "other")
    assert [row["loss"] for row in table(runs, what_if, run="other")] == shown


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"mode": "sigmoid"}, None),
        ({"mode": "sigmoid", "alpha": 0.25}, (0.75, 0.25)),
        ({"mode": "sigmoid", "alpha": [0.25]}, (0.75, 0.25)),
        ({"mode": "sigmoid", "alpha": 0.25, "positive_class": 0, "gamma": 0.5}, (0.25, 0.75)),
    ],
)
@pytest.mark.parametrize("column", mostly_slow([False, True], quick=1))
def test_a_sigmoid_run_has_two_classes(
    runs: TempRuns, config: dict[str, Any], weights: tuple[float, ...] | None, column: bool
) -> None:
    x, y = np.linspace(-8, 8, 41, dtype=np.float32), np.arange(41) % 2
    runs.create(config)
    reply_losses = runs.put(x[:, None] if column else x, y[:, None] if column else y).batches[0].per_example["loss"]
    weighting = runs.ask(lambda view: view.weighting())
    assert weighting.alpha == weights
    rows = table(runs, weighting)
    np.testing.assert_allclose([row["loss"] for row in rows], reply_losses, rtol=1e-5)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose([row["p_t"] for row in rows], np.where(y == 1, p, 1 - p), rtol=1e-6)
    assert [row["logits"] for row in runs.raw()] == [[0, value] for value in x.tolist()]
    assert [row["prediction"] for row in rows] == (x > 0).astype(int).tolist()


def test_a_single_alpha_is_the_weight_of_class_1_and_invalid_weights_are_errors(runs: TempRuns) -> None:
    runs.create({"alpha": [2, 3], "gamma": 1})
    runs.put([[0.0, 1.0]], [1])
    assert runs.ask(lambda view: view.weighting((0.25,))) == Weighting((0.75, 0.25), 1.0)
    assert runs.ask(lambda view: view.weighting((), 5)) == Weighting(None, 5.0)
    assert runs.ask(lambda view: view.weighting(None, 0)) == Weighting((2.0, 3.0), 0.0)
    for alpha, gamma in [
        ((1, 2, 3), None),
        ((-1.0, 2.0), None),
        ((1.5,), None),
        (None, -1),
        (None, INF),
        (None, math.nan),
    ]:
        with pytest.raises(InvalidConfigError):
            runs.ask(lambda view, a=alpha, g=gamma: view.weighting(a, g))


def test_a_run_without_batches_has_the_same_columns(runs: TempRuns) -> None:
    runs.create()
    names = runs.ask(lambda view: view.cursor.sql(f"SELECT * FROM {view.scored(view.weighting(), 0)}").columns)
    runs.put([[0.0, 1.0]], [1])
    assert {*SCORE_NAMES, "id", "target", "prediction", "log_loss", "attributes"} <= set(names)
    assert names == runs.ask(lambda view: view.cursor.sql(f"SELECT * FROM {view.scored(view.weighting())}").columns)
    with pytest.raises(UnknownRunError):
        runs.ask(lambda view: view.rows("SELECT 1"), "other")


def test_weights_of_many_classes_are_those_of_few(runs: TempRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = noisy(200, 5, seed=1)
    runs.create()
    runs.put(logits, targets)
    weighting = Weighting((1.0, 0.25, 3.0, 0.0, 1e-9), 0.5)
    few = table(runs, weighting, 0)
    monkeypatch.setattr("service.queries.weighting.WEIGHTS_IN_SQL", 2)
    assert weighting.has_many_classes
    many = table(runs, weighting, 0)
    assert many == few
    assert [*many[0]] == [*few[0]]
