"""The experiment on rankings: its planted labels, and its simulated reviews compared with those of the service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.rankings.data_sets import DataSet
from benchmarks.rankings.experiment import LINEAR, WITH_BAR, Finding, findings
from benchmarks.rankings.noise import KINDS, RATE
from benchmarks.rankings.review import QUEUE, fixed, recommended, reranked
from benchmarks.rankings.scores import scores, scores_of_epochs
from benchmarks.rankings.tables import missed_bars, tables
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.schema.people import ANYONE
from tests.mining.queue_dicts import whole
from tests.runs.temp_runs import TempRuns, temp_runs


@pytest.mark.parametrize("kind", KINDS)
def test_about_a_tenth_of_the_labels_is_replaced_by_other_classes(kind: str) -> None:
    labels = np.random.default_rng(0).integers(0, 5, 20_000)
    planted = KINDS[kind](labels, 5, np.random.default_rng(1))
    wrong = planted != labels
    assert wrong.mean() == pytest.approx(RATE, abs=0.01)
    rates = [wrong[labels == label].mean() for label in range(5)]
    if kind == "by-class":
        assert sorted(rates) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2], abs=0.02)
    else:
        assert rates == pytest.approx([RATE] * 5, abs=0.02)
    if kind == "next-class":
        np.testing.assert_array_equal(planted[wrong], (labels[wrong] + 1) % 5)


def rows(kind: str) -> tuple[Any, Any, Any]:
    """Logits of two epochs, labels, and which of these are wrong."""
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, 400)
    labels = KINDS[kind](truth, 3, generator)
    logits = generator.normal(size=(2, 400, 3)) + 2 * np.eye(3)[truth] + 0.5 * np.eye(3)[labels]
    return logits.astype(np.float32), labels, labels != truth


def reviewed(runs: TempRuns, wrong: Any, budget: int) -> set[int]:
    """Review the queues of the strategy `recommended` one after the other, and return the rows."""
    done: set[int] = set()
    while (number := min(QUEUE, budget - len(done))) > 0:
        request = QueueRequest.parse({"budget": number})
        verdicts = runs.store.reviews(runs.store.snapshot("r")).verdicts_of(0)
        queue = runs.ask(lambda view, r=request, v=verdicts: create_queue(runs.store, view, r, view.weighting(), v)[0])
        found = [int(row["id"][1:]) for row in whole(queue)["rows"]]
        reviews = [{"id": f"e{row:04d}", "verdict": "wrong" if wrong[row] else "ok"} for row in found]
        runs.ask(lambda view, value=reviews: add_reviews(runs.store, view, value, ANYONE))
        done |= set(found)
    return done


@pytest.mark.parametrize(("kind", "epochs"), [("by-class", 1), ("uniform", 2)])
def test_simulated_reviews_are_those_of_the_service(kind: str, epochs: int) -> None:
    logits, labels, wrong = rows(kind)
    with temp_runs() as runs:
        runs.create()
        for epoch in range(epochs):
            runs.put(logits[epoch], labels, epoch=epoch)
        ours = reviewed(runs, wrong, 90)
    stored = logits[:epochs].astype(np.float64)
    of_strategies = scores(stored[0], labels) if epochs == 1 else scores_of_epochs(stored, labels)
    pair = ("logit_margin" if epochs == 1 else "area_under_margin", "adjusted_margin")
    assert set(np.flatnonzero(recommended(of_strategies, pair, wrong, 90)).tolist()) == ours


@pytest.mark.parametrize("unreviewed", [0.0, 0.05])
def test_reviews_have_the_budget_and_begin_with_the_first_strategy(unreviewed: float) -> None:
    logits, labels, wrong = rows("uniform")
    of_strategies = scores(logits[0].astype(np.float64), labels)
    done = reranked(of_strategies, "logit_margin", logits[0], labels, wrong, 60, unreviewed)
    assert done.sum() == 60
    assert done[fixed(of_strategies["logit_margin"])(wrong, QUEUE)].all()
    assert wrong[done].mean() > wrong.mean()


@pytest.mark.slow
def test_every_ranking_is_measured_by_every_model() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 150)
    features = generator.normal(size=(150, 4)) + 3 * np.eye(3, 4)[labels]
    found = list(findings(DataSet("blobs", features, labels), seed=0))
    models = {(one.noise, one.model) for one in found}
    assert len(models) == len(KINDS) * 5
    for noise, model in models:
        shares = {one.ranking: one.found for one in found if (one.noise, one.model) == (noise, model)}
        assert {"logit_margin", "adjusted_margin", "recommended"} < shares.keys()
        assert ("area_under_margin" in shares) is ("training" in model)
        # The classes lie apart, so that most wrong labels are found, but not by a score that ignores the label.
        assert shares["recommended"] > 0.6 > shares["ambiguous"]
    assert all(0 <= one.found <= 1 for one in found)
    linear = list(findings(DataSet("blobs", features, labels), seed=0, linear_only=True))
    assert linear == [one for one in found if one.model == LINEAR]


def test_tables_have_the_means_and_missed_bars_are_named() -> None:
    found = [
        Finding(data, kind, model, ranking, share, precision)
        for model in WITH_BAR
        for data, shift in (("one", -0.1), ("two", 0.1))
        for kind in KINDS
        for ranking, share, precision in (
            ("logit_margin", 0.5 + shift, 0.25),
            ("top_loss", 0.4, 0.5),
            ("recommended", 0.49 + shift, None),
        )
    ]
    assert tables(found).splitlines()[:5] == [
        f"| {WITH_BAR[0]} | uniform | AP | next-class | AP | by-class | AP | mean |",
        "|---|---|---|---|---|---|---|---|",
        "| `logit_margin` | **0.500** | 0.250 | **0.500** | 0.250 | **0.500** | 0.250 | 0.500 |",
        "| `top_loss` | 0.400 | 0.500 | 0.400 | 0.500 | 0.400 | 0.500 | 0.400 |",
        "| `recommended` | 0.490 |  | 0.490 |  | 0.490 |  | 0.490 |",
    ]
    assert missed_bars(found) == [
        f"{model}, {kind}: 0.4900, and the best fixed strategy 0.5000" for model in WITH_BAR for kind in KINDS
    ]
