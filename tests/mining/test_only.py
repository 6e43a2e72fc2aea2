"""Queues with conditions, compared with filtering the whole ranking in Python, for every strategy and condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.diagnostics.dynamics import dynamics_page
from service.errors import InvalidRequestError
from service.mining.queues import create_queue, outlines, preview
from service.mining.requests import QueueRequest
from tests.lanes import mostly_slow
from tests.mining.queue_dicts import whole
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

ROWS, CLASSES = 240, 4
STRATEGIES = ["top_loss", "logit_margin", "area_under_margin", "suspected_errors", "ambiguous", "random"]


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create()
        for epoch in range(4):
            logits, targets = noisy(ROWS, CLASSES, 3)
            logits = logits + np.random.default_rng(epoch).normal(size=logits.shape).astype(np.float32)
            annotators = {"annotator": [["kim", "lee", None][row % 3] for row in range(ROWS)]}
            temp.put(logits, targets, epoch=epoch, attributes=annotators if epoch == 1 else None)
        yield temp


def rows_of(runs: TempRuns, **request: Any) -> list[dict[str, Any]]:
    queue_request = QueueRequest.parse({"strategy": "top_loss", "budget": ROWS} | request)
    rows: list[dict[str, Any]] = whole(
        runs.ask(lambda view: preview(runs.store, view, queue_request, view.weighting(), []))
    )["rows"]
    return rows


@pytest.mark.parametrize("strategy", mostly_slow(STRATEGIES, quick=1))
def test_a_queue_of_some_examples_is_the_ranking_without_the_others(runs: TempRuns, strategy: str) -> None:
    learned = runs.ask(lambda view: dynamics_page(view, view.weighting(), limit=ROWS))["rows"]
    over = {row["id"]: row for row in learned}
    whole = rows_of(runs, strategy=strategy)
    assert len(whole) > 3
    losses = sorted(row["loss"] for row in whole)
    least, largest = losses[len(losses) // 4], losses[-2]
    wanted = [row["id"] for row in whole[::3]]
    confidences = sorted(over[row["id"]]["confidence"] for row in whole)
    middle = confidences[len(confidences) // 2]
    filters: list[tuple[dict[str, Any], Any]] = [
        ({"target": 2}, lambda row: row["target"] == 2),
        ({"prediction": 1}, lambda row: row["prediction"] == 1),
        ({"correct": False}, lambda row: row["prediction"] != row["target"]),
        ({"ids": wanted}, lambda row: row["id"] in wanted),
        ({"attributes": {"annotator": "lee"}}, lambda row: int(row["id"][1:]) % 3 == 1),
        ({"ranges": {"loss": [least, largest]}}, lambda row: least <= row["loss"] <= largest),
        ({"ranges": {"confidence": [None, middle]}}, lambda row: over[row["id"]]["confidence"] <= middle),
        (
            {"target": 1, "ranges": {"variability": [0.05, 0.4], "p_t": [0, 0.9]}},
            lambda row: row["target"] == 1 and 0.05 <= over[row["id"]]["variability"] <= 0.4 and row["p_t"] <= 0.9,
        ),
    ]
    for only, fits in filters:
        expected = [row["id"] for row in whole if fits(row)]
        assert [row["id"] for row in rows_of(runs, strategy=strategy, only=only)] == expected, only
        assert [row["id"] for row in rows_of(runs, strategy=strategy, only=only, budget=2)] == expected[:2]


def test_quotas_count_only_examples_that_meet_the_conditions(runs: TempRuns) -> None:
    rows = rows_of(runs, only={"attributes": {"annotator": "kim"}, "correct": False}, per_class="equal", budget=12)
    assert len(rows) == 12
    assert {sum(row["target"] == label for row in rows) for label in {row["target"] for row in rows}} <= {3, 4, 6}
    assert all(int(row["id"][1:]) % 3 == 0 for row in rows)


def test_random_rows_of_some_examples_are_no_control(runs: TempRuns) -> None:
    def control(**request: Any) -> bool:
        queue_request = QueueRequest.parse({"strategy": "random", "budget": 9} | request)
        return bool(
            runs.ask(lambda view: preview(runs.store, view, queue_request, view.weighting(), [])).head["is_control"]
        )

    assert control()
    assert not control(only={"target": 1})


def test_a_preview_equals_the_queue_and_stores_nothing(runs: TempRuns) -> None:
    queue_request = QueueRequest.parse({"strategy": "logit_margin", "budget": 7})
    shown = whole(runs.ask(lambda view: preview(runs.store, view, queue_request, view.weighting(), [])))
    assert outlines(runs.store, runs.store.snapshot("r")) == []
    stored, _ = runs.ask(lambda view: create_queue(runs.store, view, queue_request, view.weighting(), []))
    new = {name: stored.head[name] for name in ("name", "created_at")}
    assert shown | new == whole(stored)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ({"target": -1}, "target"),
        ({"ids": []}, "ids"),
        ({"label": 1}, "label"),
        ({"ranges": {"losses": [0, 1]}}, "no range of 'losses'; known are loss, "),
        ({"ranges": {"loss": [0]}}, "ranges"),
        ({"ranges": {"loss": [float("nan"), 1]}}, "ranges"),
        ({"attributes": {"annotator": 3}}, "annotator"),
    ],
)
def test_invalid_conditions_are_errors(only: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        QueueRequest.parse({"strategy": "top_loss", "only": only})
