"""Reviews of files at the store: what counts as changed, and the same file from several threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.mining.file_reviews import FileReviews, RowReview, StoredFile, add_file_reviews, is_untouched
from service.mining.reviews import add_reviews
from service.runs.review_history import ReviewHistory
from service.schema.people import ANYONE
from tests.runs.temp_runs import TempRuns, temp_runs

KIM, LEE = {"reviewer": "kim"}, {"reviewer": "lee"}


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create(class_names=["cat", "dog", "owl"])
        temp.put([[1.0, 0.0, 0.0]] * 300, [0] * 300, [f"e{number}" for number in range(300)])
        yield temp


def history(runs: TempRuns) -> ReviewHistory:
    return runs.store.reviews(runs.store.snapshot("r"))


def review(runs: TempRuns, *reviews: Any) -> str:
    """Store reviews, and return the id of the last one."""
    added = runs.ask(lambda view: add_reviews(runs.store, view, list(reviews), ANYONE))
    return added[-1]["review"]


def send(runs: TempRuns, *rows: Any) -> StoredFile:
    reviews = [RowReview(number, **row) for number, row in enumerate(rows)]
    return runs.ask(lambda view: add_file_reviews(runs.store, view, FileReviews(reviews, 0, 0), ANYONE))


@pytest.mark.parametrize(
    ("row", "is_new"),
    [
        (KIM | {"verdict": "wrong", "label": 1}, False),
        (KIM | {"verdict": "wrong", "label": 1, "comment": "x"}, False),
        (KIM | {"verdict": "wrong", "label": 1, "comment": "y"}, True),
        (KIM | {"verdict": "wrong", "label": 2}, True),
        (KIM | {"verdict": "wrong"}, True),
        (KIM | {"verdict": "exclude"}, True),
        (KIM | {"verdict": "wrong", "label": 1, "adjudicate": True}, True),
        (LEE | {"verdict": "wrong", "label": 1}, True),
        ({"verdict": "wrong", "label": 1}, True),
    ],
)
def test_a_row_counts_if_its_reviewer_has_not_said_the_same(runs: TempRuns, row: Any, is_new: bool) -> None:
    seen = review(runs, KIM | {"id": "e0", "verdict": "wrong", "label": 1, "comment": "x"})
    assert send(runs, {"id": "e0"} | row) == (is_new, not is_new, 0)
    assert send(runs, {"id": "e0"} | row) == (0, 1, 0)
    # A verdict that was exported is nobody's, unless it was changed.
    as_exported = {**row, "reviewer": "max", "adjudicate": False}
    same = (row["verdict"], row.get("label"), row.get("comment", "x")) == ("wrong", 1, "x")
    assert send(runs, {"id": "e0", "seen": seen} | as_exported) == (not same, same, 0)


def test_a_row_with_an_earlier_verdict_is_untouched_whatever_was_said_since(runs: TempRuns) -> None:
    seen = review(runs, KIM | {"id": "e0", "verdict": "ok"})
    row = RowReview(0, "e0", "ok", reviewer="max", seen=seen)
    assert is_untouched(row, history(runs))
    review(runs, LEE | {"id": "e0", "verdict": "wrong"})
    # Now the store has to look for the standing of that time.
    assert not is_untouched(row, history(runs))
    assert send(runs, {"id": "e0", "verdict": "ok", "reviewer": "max", "seen": seen}) == (0, 1, 0)
    assert send(runs, {"id": "e0", "verdict": "ok", "reviewer": "max", "seen": "of another run"}) == (1, 0, 0)


def test_the_same_file_from_several_threads_is_stored_once(runs: TempRuns) -> None:
    rows = [KIM | {"id": f"e{number}", "verdict": "wrong", "label": number % 3} for number in range(300)]
    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(lambda _: send(runs, *rows), range(4)))
    assert sorted(result.added for result in results) == [0, 0, 0, 300]
    assert len(history(runs).reviews) == 300
