"""Reviews: all or none are stored, in order, and the last one on an example counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.errors import InvalidRequestError, UnknownExampleError
from service.mining.reviews import MAX_REVIEWS, add_reviews
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as made:
        made.create(class_names=["cat", "dog", "7"])
        logits, targets = noisy(60, 3, 4)
        made.put(logits, targets)
        made.put(logits[:2], targets[:2], [12, "it's"], epoch=1)
        yield made


def say(runs: TempRuns, *reviews: Any) -> int:
    return runs.ask(lambda view: add_reviews(runs.store, view, list(reviews)))


def said(runs: TempRuns) -> list[dict[str, Any]]:
    return list(runs.store.reviews(runs.store.snapshot("r")).reviews)


def last(runs: TempRuns) -> dict[str, str]:
    verdicts = runs.store.reviews(runs.store.snapshot("r")).verdicts
    return {identity: review["verdict"] for identity, review in verdicts.items()}


def test_reviews_are_kept_in_the_order_in_which_they_came(runs: TempRuns) -> None:
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


def test_a_label_is_a_class_or_the_name_of_one(runs: TempRuns) -> None:
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
def test_one_bad_review_and_none_is_kept(runs: TempRuns, bad: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        say(runs, {"id": "e0001", "verdict": "ok"}, bad, {"id": "e0003", "verdict": "ok"})
    assert caught.value.errors[0]["loc"][0] == 1
    assert said(runs) == []


def test_an_example_that_the_run_has_not_is_named_and_none_is_kept(runs: TempRuns) -> None:
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


def test_the_last_word_counts_and_can_be_taken_back(runs: TempRuns) -> None:
    say(runs, {"id": "e0001", "verdict": "wrong"}, {"id": "e0002", "verdict": "ok"}, {"id": "e0001", "verdict": "ok"})
    assert last(runs) == {"e0001": "ok", "e0002": "ok"}
    say(runs, {"id": "e0001", "verdict": "unsure"})
    say(runs, {"id": "e0002", "verdict": None})
    assert last(runs) == {"e0001": "unsure"}
    say(runs, {"id": "e0002", "verdict": "wrong"})
    assert last(runs) == {"e0001": "unsure", "e0002": "wrong"}
    assert len(said(runs)) == 6


def test_the_last_word_counts_also_where_the_clock_stands_still_or_goes_back(
    runs: TempRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.chain([5000] * 30, [10, 9, 8, 7, 6])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    verdict = itertools.cycle(["ok", "wrong"])
    words = [next(verdict) for _ in range(35)]
    for word in words:
        say(runs, {"id": "e0001", "verdict": word})
    assert [one["verdict"] for one in said(runs)] == words
