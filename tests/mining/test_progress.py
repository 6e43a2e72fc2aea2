"""Precision and error rate by counting, Wilson's interval by known values, and the expected yield of a queue."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from service.mining.progress import expected_yield, precision, progress, wilson
from service.mining.queue_table import expected_errors
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.runs.review_history import ReviewHistory
from service.schema.people import ANYONE
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create(class_names=["cat", "dog", "7"])
        logits, targets = noisy(60, 3, 4)
        temp.put(logits, targets)
        yield temp


def test_precision_counts_the_rows_of_a_strategy_and_the_error_rate_those_of_the_control(runs: TempRuns) -> None:
    queues = {}
    for strategy in ("top_loss", "random", "logit_margin"):
        request = QueueRequest.parse({"strategy": strategy, "budget": 12, "epoch": 0})
        queues[strategy] = runs.ask(lambda view, r=request: create_queue(runs.store, view, r, view.weighting(), [])[0])
    quota = QueueRequest.parse({"strategy": "random", "budget": 9, "epoch": 0, "per_class": "equal", "seed": 5})
    biased = runs.ask(lambda view: create_queue(runs.store, view, quota, view.weighting(), [])[0])
    reviews = [{"id": f"e{row:04d}", "verdict": ("ok", "wrong", "unsure")[row % 3]} for row in range(0, 60, 2)]
    runs.ask(lambda view: add_reviews(runs.store, view, reviews, ANYONE))
    words = {review["id"]: review["verdict"] for review in reviews}
    result = progress(runs.store, runs.store.snapshot("r"), runs.store.reviews(runs.store.snapshot("r")))
    assert (result["num_reviewed"], result["num_ok"], result["num_wrong"], result["num_unsure"]) == (30, 10, 10, 10)
    assert list(result["precision"]) == ["logit_margin", "random", "top_loss"]
    sets = {name: set(queue.ids) for name, queue in queues.items()}
    control = set(sets["random"])
    sets["random"] |= set(biased.ids)
    assert sets["random"] > control
    for name, ids in [*sets.items(), ("control", control)]:
        share = result["error_rate"] if name == "control" else result["precision"][name]
        counts = [sum(words.get(identity) == word for identity in ids) for word in ("ok", "wrong", "unsure")]
        assert (share["reviewed"], share["wrong"], share["unsure"]) == (sum(counts), counts[1], counts[2])
        assert share["share"] == counts[1] / (counts[0] + counts[1])
        assert share["low"] <= share["share"] <= share["high"]


def test_without_reviews_or_control_the_shares_are_null(runs: TempRuns) -> None:
    empty = progress(runs.store, runs.store.snapshot("r"), ReviewHistory([]))
    assert (empty["num_reviewed"], empty["precision"], empty["error_rate"]) == (0, {}, None)
    share = precision({"unsure": 1})
    assert share == {"reviewed": 1, "judged": 0, "wrong": 0, "unsure": 1, "share": None, "low": None, "high": None}


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_equals_scipys(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_interval_equals_published_values() -> None:
    """Newcombe 1998, table I, method 3, to four digits."""
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert [round(end or 0.0, 4) for end in wilson(successes, trials)] == [low, high]
    assert wilson(0, 0) == (None, None)
    for trials in range(1, 300):
        assert (wilson(trials, trials)[1], wilson(0, trials)[0]) == (1, 0)


def test_the_yield_uses_the_precision_from_ten_verdicts_on_and_before_that_the_models_probabilities() -> None:
    rows = pa.table({"strategy": ["top_loss", "random"], "p_t": [0.25, 0.5]})

    def so_far(wrong: int, ok: int, unsure: int) -> dict[str, Any]:
        words = ["wrong"] * wrong + ["ok"] * ok + ["unsure"] * unsure
        return precision(Counter(words))

    assert expected_yield(expected_errors(rows), {})["wrong_labels"] == 1.25
    assert expected_yield(expected_errors(rows), {"top_loss": so_far(4, 5, 20)})["wrong_labels"] == 1.25
    trusted = expected_yield(expected_errors(rows), {"top_loss": so_far(4, 6, 0)})
    assert (trusted["wrong_labels"], trusted["rows"]) == (0.4 + 0.5, 2)
    assert "calibrated" in trusted["caveat"]
    over_epochs = rows.append_column("suggested_epochs", [[3, 3]]).append_column("num_epochs", [[4, 4]])
    assert expected_yield(expected_errors(over_epochs), {})["wrong_labels"] == 1.5
    both = expected_yield(expected_errors(rows), {"top_loss": so_far(4, 6, 0), "random": so_far(0, 50, 0)})
    assert both["wrong_labels"] == 0.4
    assert "precision so far" in both["caveat"]
    assert expected_yield(expected_errors(rows[:0]), {})["wrong_labels"] == 0
    assert math.isfinite(expected_yield(expected_errors(rows), {"top_loss": so_far(0, 0, 30)})["wrong_labels"])
