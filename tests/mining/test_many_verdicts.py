"""The work of a review, a page and a lease does not grow with the verdicts of a run."""

from __future__ import annotations

import cProfile
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import pytest

from service.mining.listing import QueueFilter
from service.mining.queue_pages import next_page, queue_page
from service.mining.queues import create_queue, queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.queries.view import View
from service.schema.people import Principal
from service.schema.replies.reviews import StoredReview
from tests.runs.temp_runs import TempRuns, temp_runs

pytestmark = pytest.mark.slow

ROWS, FEW = 100_000, 1_000
KIM = Principal("kim", "reviewer")
REPEATED = 15


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """A run with a queue of all of its rows, and one of a thousand."""
    with temp_runs() as temp:
        temp.create(store_logits=False)
        generator = np.random.default_rng(0)
        logits = generator.standard_normal((ROWS, 2), np.float32)
        temp.put(logits, generator.integers(0, 2, ROWS), [identity(row) for row in range(ROWS)])
        for name, budget in (("all", ROWS), ("some", 1_000)):
            request = QueueRequest.parse({"name": name, "strategy": "top_loss", "budget": budget, "overlap": 2})
            temp.ask(lambda view, r=request: create_queue(temp.store, view, r, view.weighting(), []))
        yield temp


def identity(row: int) -> str:
    return f"e{row:06}"


def judge(runs: TempRuns, first: int, last: int) -> None:
    """Add verdicts of one reviewer on a range of rows, in lists of up to ten thousand."""
    reviews: list[StoredReview] = [
        {
            "id": identity(row),
            "verdict": ("ok", "wrong", "unsure")[row % 3],
            "label": None,
            "reviewer": "lee",
            "queue": "all",
            "comment": None,
            "at": "2026-11-30T12:00:00+00:00",
        }
        for row in range(first, last)
    ]
    for start in range(0, len(reviews), 10_000):
        runs.store.add_reviews(runs.store.snapshot("r"), reviews[start : start + 10_000])


def work(runs: TempRuns, number: int) -> None:
    """One review, and then what its reviewer asks for next."""

    def asked(view: View) -> None:
        review = {"id": identity(number), "verdict": "ok", "queue": "all"}
        add_reviews(runs.store, view, [review], KIM)
        stored = queue(runs.store, view.snapshot, "all")
        page = queue_page(runs.store, view, stored, QueueFilter(verdict="open", limit=50), KIM)
        assert len(page["rows"]) <= 50
        assert next_page(runs.store, view, stored, KIM, 20, 600)["rows"]

    runs.ask(asked)


def measured(runs: TempRuns, first: int) -> tuple[int, float]:
    """Number of function calls, and the median of the seconds of CPU, of `work`."""
    work(runs, first)
    seconds = []
    for number in range(first + 1, first + 1 + REPEATED):
        begun = time.thread_time()
        work(runs, number)
        seconds.append(time.thread_time() - begun)
    profile = cProfile.Profile()
    profile.runcall(work, runs, first + 1 + REPEATED)
    return sum(entry.callcount for entry in profile.getstats()), median(seconds)


def test_the_work_does_not_grow_with_the_verdicts(runs: TempRuns) -> None:
    judge(runs, 0, FEW)
    few_calls, few_seconds = measured(runs, 0)
    judge(runs, FEW, ROWS)
    many_calls, many_seconds = measured(runs, 100)
    # A pass over all verdicts would be a hundred thousand calls and tens of milliseconds more.
    assert many_calls < 3 * few_calls, (few_calls, many_calls)
    assert many_seconds < 3 * few_seconds, (few_seconds, many_seconds)
