"""Reviews: all or none are stored, in order, and the last one on an example counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import ForbiddenError, InvalidRequestError, ReviewConflictError, UnknownExampleError
from service.mining.reviews import MAX_REVIEWS, add_reviews
from service.runs.store import RunStore
from service.schema.people import ANYONE, Principal
from tests.lanes import mostly_slow
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create(class_names=["cat", "dog", "7"])
        logits, targets = noisy(60, 3, 4)
        temp.put(logits, targets)
        temp.put(logits[:2], targets[:2], [12, "it's"], epoch=1)
        yield temp


def review(runs: TempRuns, *reviews: Any) -> list[Any]:
    return runs.ask(lambda view: add_reviews(runs.store, view, list(reviews), ANYONE))


def stored_reviews(runs: TempRuns) -> list[dict[str, Any]]:
    return list(runs.store.reviews(runs.store.snapshot("r")).reviews)


def last(runs: TempRuns) -> dict[str, str]:
    verdicts = runs.store.reviews(runs.store.snapshot("r")).verdicts
    return {key.id: standing.verdict for key, standing in verdicts.items()}


def test_reviews_are_stored_in_the_order_of_their_arrival(runs: TempRuns) -> None:
    added = review(runs, {"id": "e0000", "verdict": "wrong", "label": "dog", "reviewer": "ann", "comment": "ü"})
    added += review(runs, {"id": 12, "verdict": "ok"}, {"id": "it's", "verdict": "unsure", "queue": "q"})
    assert review(runs) == []
    result = stored_reviews(runs)
    assert added == result
    assert [(item["id"], item["verdict"], item["label"]) for item in result] == [
        ("e0000", "wrong", 1),
        ("12", "ok", None),
        ("it's", "unsure", None),
    ]
    assert (result[0]["reviewer"], result[0]["comment"], result[2]["queue"]) == ("ann", "ü", "q")
    assert list(result[0]) == ["id", "verdict", "label", "reviewer", "queue", "comment", "at", "review"]


def test_a_label_is_a_class_or_a_class_name(runs: TempRuns) -> None:
    for label, expected in ((0, 0), (2, 2), ("cat", 0), ("7", 2), ("0", 0), (None, None)):
        review(runs, {"id": "e0001", "verdict": "wrong", "label": label})
        assert stored_reviews(runs)[-1]["label"] == expected
    before = stored_reviews(runs)
    for label in (3, -1, "bird", "3", True, 1.0, ["cat"], 2**70):
        with pytest.raises(InvalidRequestError) as caught:
            review(runs, {"id": "e0001", "verdict": "ok"}, {"id": "e0002", "verdict": "wrong", "label": label})
        assert caught.value.errors[0]["loc"][:2] == [1, "label"]
    assert stored_reviews(runs) == before


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


@pytest.mark.parametrize("bad", mostly_slow(BAD, quick=4))
def test_with_one_invalid_review_none_is_stored(runs: TempRuns, bad: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        review(runs, {"id": "e0001", "verdict": "ok"}, bad, {"id": "e0003", "verdict": "ok"})
    assert caught.value.errors[0]["loc"][0] == 1
    assert stored_reviews(runs) == []


def test_with_one_unknown_example_no_review_is_stored(runs: TempRuns) -> None:
    for unknown in ("nobody", "E0001", "", "e0001'", 13):
        with pytest.raises(UnknownExampleError) as caught:
            review(runs, {"id": "e0001", "verdict": "ok"}, {"id": unknown, "verdict": "ok"})
        assert caught.value.errors[0]["loc"] == [1, "id"]
    for value in ({}, {"id": "e0001", "verdict": "ok"}, None, "x"):
        with pytest.raises(InvalidRequestError):
            runs.ask(lambda view, value=value: add_reviews(runs.store, view, value, ANYONE))
    with pytest.raises(InvalidRequestError):
        review(runs, *[{"id": "e0001", "verdict": "ok"}] * (MAX_REVIEWS + 1))
    assert stored_reviews(runs) == []


def test_the_last_verdict_counts_and_can_be_withdrawn(runs: TempRuns) -> None:
    review(
        runs, {"id": "e0001", "verdict": "wrong"}, {"id": "e0002", "verdict": "ok"}, {"id": "e0001", "verdict": "ok"}
    )
    assert last(runs) == {"e0001": "ok", "e0002": "ok"}
    review(runs, {"id": "e0001", "verdict": "unsure"})
    review(runs, {"id": "e0002", "verdict": None})
    assert last(runs) == {"e0001": "unsure"}
    review(runs, {"id": "e0002", "verdict": "wrong"})
    assert last(runs) == {"e0001": "unsure", "e0002": "wrong"}
    assert len(stored_reviews(runs)) == 6


def test_the_last_verdict_counts_if_the_clock_stands_still_or_goes_back(
    runs: TempRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.chain([5000] * 30, [10, 9, 8, 7, 6])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    verdict = itertools.cycle(["ok", "wrong"])
    words = [next(verdict) for _ in range(35)]
    for word in words:
        review(runs, {"id": "e0001", "verdict": word})
    assert [item["verdict"] for item in stored_reviews(runs)] == words


def test_a_review_that_expects_another_last_review_is_a_conflict_and_stores_nothing(runs: TempRuns) -> None:
    ann = {"id": "e0000", "verdict": "ok", "reviewer": "ann", "expected": None}
    review(runs, ann)
    (first,) = stored_reviews(runs)
    for expected in (None, "another"):
        bob = {"id": "e0000", "verdict": "wrong", "reviewer": "bob", "expected": expected}
        with pytest.raises(ReviewConflictError, match=r"is .* by ann, expected") as refused:
            review(runs, {"id": "e0001", "verdict": "ok"}, bob)
        assert refused.value.current == first
        assert refused.value.problem()["current"] == first
        assert refused.value.errors[0]["loc"] == [1, "expected"]
    assert len(stored_reviews(runs)) == 1
    review(runs, {"id": "e0000", "verdict": None, "reviewer": "ann", "expected": first["review"]})
    with pytest.raises(ReviewConflictError):
        review(runs, ann)
    review(runs, {**ann, "expected": stored_reviews(runs)[-1]["review"]})


def test_of_many_reviews_that_expect_the_same_exactly_one_is_stored(runs: TempRuns) -> None:
    def send(number: int) -> bool:
        # Another store, as another process has it.
        store = RunStore(runs.store.files, 1000)
        value = [{"id": "e0002", "verdict": "ok", "reviewer": str(number), "expected": None}]
        try:
            runs.ask(lambda view: add_reviews(store, view, value, ANYONE))
        except ReviewConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(send, range(16))) == 1
    assert len(stored_reviews(runs)) == 1


def test_an_adjudication_needs_an_owner_and_counts_alone(runs: TempRuns) -> None:
    review(runs, *({"id": "e0003", "verdict": word, "reviewer": word} for word in ("ok", "wrong")))
    assert last(runs) == {"e0003": "conflict"}
    settled = {"id": "e0003", "verdict": "wrong", "label": "dog", "adjudicate": True}
    with pytest.raises(ForbiddenError) as refused:
        runs.ask(lambda view: add_reviews(runs.store, view, [settled], Principal("kim", "reviewer")))
    assert refused.value.errors[0]["loc"] == [0, "adjudicate"]
    runs.ask(lambda view: add_reviews(runs.store, view, [settled], Principal("kim", "owner")))
    assert last(runs) == {"e0003": "wrong"}
    assert stored_reviews(runs)[-1]["reviewer"] == "kim"
    assert stored_reviews(runs)[-1]["adjudicated"]
