"""Warnings about verdicts: each with its figures, at its threshold and not below it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scipy.stats import binomtest

from service.mining.listing import QueueFilter
from service.mining.progress import wilson
from service.mining.queue_pages import queue_page
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.mining.verdict_warnings import (
    difference,
    far_from_expected,
    no_better_than_random,
    one_sided,
    verdict_warnings,
)
from service.schema.people import ANYONE
from service.schema.replies.reviews import Precision
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


def found(wrong: int, judged: int) -> Precision:
    low, high = wilson(wrong, judged)
    share = wrong / judged if judged else None
    return {"reviewed": judged, "judged": judged, "wrong": wrong, "unsure": 0, "share": share, "low": low, "high": high}


def test_one_sided_verdicts() -> None:
    counts = {
        "kim": {"wrong": 30},
        None: {"wrong": 100, "unsure": 3},
        "alex": {"wrong": 29},
        "lee": {"ok": 1, "wrong": 99},
    }
    nameless, kim = one_sided(counts)
    assert {nameless["code"], kim["code"]} == {"one_sided_verdicts"}
    assert "All 100 verdicts of reviewers without a name are `wrong`" in nameless["message"]
    least = binomtest(30, 30, alternative="greater").proportion_ci(0.95, method="exact").low
    assert "All 30 verdicts of kim are" in kim["message"]
    assert f"fewer than {least:.1%} of these labels were wrong" in kim["message"]


@pytest.mark.parametrize(
    ("queue", "control", "words"),
    [
        ((20, 40), (2, 30), None),
        ((3, 40), (3, 40), "no more often than rows drawn at random"),
        ((0, 30), (5, 30), "no more often than rows drawn at random"),
        ((6, 40), (3, 40), "may be chance"),
        ((3, 29), (3, 40), None),
        ((3, 40), (3, 29), None),
    ],
)
def test_no_better_than_random(queue: tuple[int, int], control: tuple[int, int], words: str | None) -> None:
    warnings = list(no_better_than_random({"top_loss": found(*queue), "random": found(*control)}, found(*control)))
    assert len(warnings) == (words is not None)
    for warning in warnings:
        assert warning["code"] == "no_better_than_random"
        assert words is not None
        assert words in warning["message"]
        assert f"{queue[0]} of {queue[1]} (95% interval: " in warning["message"]
        assert f"against {control[0]} of {control[1]} (" in warning["message"]
    assert not list(no_better_than_random({"top_loss": found(*queue)}, None))


def test_the_interval_of_the_difference_equals_a_published_one() -> None:
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 is .0524 to .3339, and 9/10 less 3/10 is .1705 or more."""
    for one, other, low in [((56, 70), (48, 80), 0.0524), ((9, 10), (3, 10), 0.1705), ((6, 7), (2, 7), 0.0582)]:
        assert difference(found(*one), found(*other))[1] == pytest.approx(low, abs=5e-5)


@pytest.mark.parametrize(
    ("wrong", "judged", "expected", "words"),
    [
        (10, 40, 0.9, "doubts too many labels"),
        (36, 40, 0.4, "trusts too many labels"),
        (0, 40, 0.5, "doubts too many labels"),
        (18, 40, 0.5, None),
        (300, 1000, 0.4, None),
        (0, 29, 0.9, None),
        (0, 0, 0.9, None),
    ],
)
def test_far_from_expected(wrong: int, judged: int, expected: float, words: str | None) -> None:
    warnings = list(far_from_expected({"logit_margin": found(wrong, judged)}, {"logit_margin": expected}))
    assert [warning["code"] for warning in warnings] == (["far_from_expected"] if words else [])
    for warning in warnings:
        assert words is not None
        assert words in warning["message"]
        assert f"expect {expected:.0%} wrong labels" in warning["message"]
        assert f"found {wrong} of {judged} (" in warning["message"]
    assert not list(far_from_expected({"logit_margin": found(wrong, judged)}, {}))


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create()
        temp.put(*noisy(120, 3, 4))
        yield temp


def codes(runs: TempRuns) -> list[str]:
    snapshot = runs.store.snapshot("r")
    return [warning["code"] for warning in verdict_warnings(runs.store, snapshot, runs.store.reviews(snapshot))]


@pytest.mark.parametrize("verdict", ["wrong", "ok"])
def test_warnings_about_a_run(runs: TempRuns, verdict: str) -> None:
    reviews, queues = [], []
    for strategy in ("top_loss", "random"):
        request = QueueRequest.parse({"strategy": strategy, "budget": 40})
        queue = runs.ask(lambda view, r=request: create_queue(runs.store, view, r, view.weighting(), [])[0])
        queues.append(queue)
        reviews += [{"id": name, "verdict": verdict, "reviewer": "kim"} for name in queue.ids]
    assert codes(runs) == []
    runs.ask(lambda view: add_reviews(runs.store, view, reviews, ANYONE))
    # Verdicts that are all the same find as many errors at random, and not what the model expects.
    pages = [
        runs.ask(lambda view, one=queue: queue_page(runs.store, view, one, QueueFilter(), ANYONE)) for queue in queues
    ]
    assert [len(page["warnings"]) for page in pages] == [1, 0]
    assert pages[0]["warnings"][0].startswith("The rows of top_loss are wrong no more often than rows drawn")
    assert set(codes(runs)) == {"no_better_than_random", "far_from_expected"} | (
        {"one_sided_verdicts"} if verdict == "wrong" else set()
    )
