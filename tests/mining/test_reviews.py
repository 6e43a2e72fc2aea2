"""Reviews: all or none, the last word, precision and error rate by counting, Wilson's interval by known values."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from service.errors import InvalidRequestError, UnknownExampleError
from service.mining.listing import doubts
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from service.mining.reviews import (
    MAX_REVIEWS,
    add_reviews,
    expected_yield,
    history,
    progress,
    share_wrong,
    verdicts,
    wilson,
)
from tests.runs.kept import Kept, kept, noisy


@pytest.fixture
def runs() -> Iterator[Kept]:
    with kept() as made:
        made.make(class_names=["cat", "dog", "7"])
        logits, targets = noisy(60, 3, 4)
        made.put(logits, targets)
        made.put(logits[:2], targets[:2], [12, "it's"], epoch=1)
        yield made


def say(runs: Kept, *reviews: Any) -> int:
    return runs.ask(lambda view: add_reviews(runs.store, view, list(reviews)))


def said(runs: Kept) -> list[dict[str, Any]]:
    return history(runs.store, runs.store.snapshot("r"))


def last(runs: Kept) -> dict[str, str]:
    return {identity: review["verdict"] for identity, review in verdicts(said(runs)).items()}


def test_reviews_are_kept_in_the_order_in_which_they_came(runs: Kept) -> None:
    assert say(runs, {"id": "e0000", "verdict": "wrong", "label": "dog", "reviewer": "ann", "comment": "ü"}) == 1
    assert say(runs, {"id": 12, "verdict": "ok"}, {"id": "it's", "verdict": "unsure", "queue": "q"}) == 2
    assert say(runs) == 0
    found = said(runs)
    assert [(one["id"], one["verdict"], one["label"]) for one in found] == [
        ("e0000", "wrong", 1),
        ("12", "ok", None),
        ("it's", "unsure", None),
    ]
    assert (found[0]["reviewer"], found[0]["comment"], found[2]["queue"]) == ("ann", "ü", "q")
    assert list(found[0]) == ["id", "verdict", "label", "reviewer", "queue", "comment", "at"]


def test_a_label_is_a_class_or_the_name_of_one(runs: Kept) -> None:
    for label, wanted in ((0, 0), (2, 2), ("cat", 0), ("7", 2), (None, None)):
        say(runs, {"id": "e0001", "verdict": "wrong", "label": label})
        assert said(runs)[-1]["label"] == wanted
    before = said(runs)
    for label in (3, -1, "bird", "0", True, 1.0, ["cat"], 2**70):
        with pytest.raises(InvalidRequestError) as caught:
            say(runs, {"id": "e0001", "verdict": "ok"}, {"id": "e0002", "verdict": "wrong", "label": label})
        assert caught.value.errors[0]["loc"][:2] == [1, "label"]
    assert said(runs) == before


BAD: list[Any] = [
    {"id": "e0002"},
    {"verdict": "ok"},
    {"id": "e0002", "verdict": "bad"},
    {"id": "e0002", "verdict": "ok", "note": "x"},
    {"id": None, "verdict": "ok"},
    {"id": True, "verdict": "ok"},
    {"id": 1.5, "verdict": "ok"},
    {"id": "e0002", "verdict": "ok", "reviewer": "x" * 201},
    "e0002",
    None,
]


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_review_and_none_is_kept(runs: Kept, bad: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        say(runs, {"id": "e0001", "verdict": "ok"}, bad, {"id": "e0003", "verdict": "ok"})
    assert caught.value.errors[0]["loc"][0] == 1
    assert said(runs) == []


def test_an_example_that_the_run_has_not_is_named_and_none_is_kept(runs: Kept) -> None:
    for unknown in ("nobody", "E0001", "", "e0001'", 13):
        with pytest.raises(UnknownExampleError) as caught:
            say(runs, {"id": "e0001", "verdict": "ok"}, {"id": unknown, "verdict": "ok"})
        assert caught.value.errors[0]["loc"] == [1, "id"]
    for value in ({}, {"id": "e0001", "verdict": "ok"}, None, "x"):
        with pytest.raises(InvalidRequestError):
            runs.ask(lambda view, value=value: add_reviews(runs.store, view, value))
    with pytest.raises(InvalidRequestError):
        say(runs, *[{"id": "e0001", "verdict": "ok"}] * (MAX_REVIEWS + 1))
    assert said(runs) == []


def test_the_last_word_counts_and_can_be_taken_back(runs: Kept) -> None:
    say(runs, {"id": "e0001", "verdict": "wrong"}, {"id": "e0002", "verdict": "ok"}, {"id": "e0001", "verdict": "ok"})
    assert last(runs) == {"e0001": "ok", "e0002": "ok"}
    say(runs, {"id": "e0001", "verdict": "unsure"})
    say(runs, {"id": "e0002", "verdict": None})
    assert last(runs) == {"e0001": "unsure"}
    say(runs, {"id": "e0002", "verdict": "wrong"})
    assert last(runs) == {"e0001": "unsure", "e0002": "wrong"}
    assert len(said(runs)) == 6


def test_the_last_word_counts_also_where_the_clock_stands_still_or_goes_back(
    runs: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.chain([5000] * 30, [10, 9, 8, 7, 6])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    verdict = itertools.cycle(["ok", "wrong"])
    words = [next(verdict) for _ in range(35)]
    for word in words:
        say(runs, {"id": "e0001", "verdict": word})
    assert [one["verdict"] for one in said(runs)] == words


def test_precision_is_counted_for_each_strategy_and_the_error_rate_over_control_rows_alone(runs: Kept) -> None:
    made = {}
    for strategy in ("top_loss", "random", "logit_margin"):
        request = QueueRequest.parse({"strategy": strategy, "budget": 12, "epoch": 0})
        made[strategy] = runs.ask(lambda view, r=request: create_queue(runs.store, view, r, view.weighting(), [])[0])
    quota = QueueRequest.parse({"strategy": "random", "budget": 9, "epoch": 0, "per_class": "equal", "seed": 5})
    biased = runs.ask(lambda view: create_queue(runs.store, view, quota, view.weighting(), [])[0])
    say(runs, *[{"id": f"e{row:04d}", "verdict": ("ok", "wrong", "unsure")[row % 3]} for row in range(0, 60, 2)])
    words = last(runs)
    found = progress(runs.store, runs.store.snapshot("r"), verdicts(said(runs)))
    assert (found["num_reviewed"], found["num_ok"], found["num_wrong"], found["num_unsure"]) == (30, 10, 10, 10)
    assert list(found["precision"]) == ["logit_margin", "random", "top_loss"]
    sets = {name: {row["id"] for row in one["rows"]} for name, one in made.items()}
    control = set(sets["random"])
    sets["random"] |= {row["id"] for row in biased["rows"]}
    assert sets["random"] > control
    for name, of in [*sets.items(), ("control", control)]:
        told = found["error_rate"] if name == "control" else found["precision"][name]
        counts = [sum(words.get(identity) == word for identity in of) for word in ("ok", "wrong", "unsure")]
        assert (told["reviewed"], told["wrong"], told["unsure"]) == (sum(counts), counts[1], counts[2])
        assert told["share"] == counts[1] / (counts[0] + counts[1])
        assert told["low"] <= told["share"] <= told["high"]


def test_nothing_is_said_without_reviews_or_without_a_control(runs: Kept) -> None:
    empty = progress(runs.store, runs.store.snapshot("r"), {})
    assert (empty["num_reviewed"], empty["precision"], empty["error_rate"]) == (0, {}, None)
    told = share_wrong(["a", "b"], {"a": {"verdict": "unsure"}, "c": {"verdict": "wrong"}})
    assert told == {"reviewed": 1, "wrong": 0, "unsure": 1, "share": None, "low": None, "high": None}


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_is_wilsons(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    wanted = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_interval_by_published_values() -> None:
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


def test_the_yield_is_that_of_the_reviews_where_there_are_ten_verdicts_and_else_the_models_doubt() -> None:
    rows = [{"strategy": "top_loss", "p_t": 0.25}, {"strategy": "random", "p_t": 0.5}]

    def so_far(wrong: int, ok: int, unsure: int) -> dict[str, Any]:
        words = ["wrong"] * wrong + ["ok"] * ok + ["unsure"] * unsure
        return share_wrong(map(str, range(99)), {str(n): {"verdict": word} for n, word in enumerate(words)})

    assert expected_yield(doubts(rows), {})["wrong_labels"] == 1.25
    assert expected_yield(doubts(rows), {"top_loss": so_far(4, 5, 20)})["wrong_labels"] == 1.25
    trusted = expected_yield(doubts(rows), {"top_loss": so_far(4, 6, 0)})
    assert (trusted["wrong_labels"], trusted["rows"]) == (0.4 + 0.5, 2)
    assert "calibrated" in trusted["caveat"]
    over_epochs = [row | {"suggested_epochs": 3, "num_epochs": 4} for row in rows]
    assert expected_yield(doubts(over_epochs), {})["wrong_labels"] == 1.5
    both = expected_yield(doubts(rows), {"top_loss": so_far(4, 6, 0), "random": so_far(0, 50, 0)})
    assert both["wrong_labels"] == 0.4
    assert "precision so far" in both["caveat"]
    assert expected_yield(doubts([]), {})["wrong_labels"] == 0
    assert math.isfinite(expected_yield(doubts(rows), {"top_loss": so_far(0, 0, 30)})["wrong_labels"])
