"""The strategy `recommended`: the choice by what a run has, by its verdicts, and the queue that follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mining.gold import gold_keys
from service.mining.queue_table import GOLD
from service.mining.queues import create_queue, outlines, preview, queue
from service.mining.recommended import MIN_VERDICTS, Found, better_of, compare_verdicts
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.runs.units import UnitKey
from service.schema.people import ANYONE
from service.schema.replies.fields import Strategy
from tests.mining.queue_dicts import whole
from tests.mining.structured_runs import Data
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    """200 rows of four classes, class 0 the most frequent prediction, in one epoch."""
    with temp_runs() as temp:
        temp.create()
        logits, targets = noisy(200, 4, 3)
        temp.put(logits + np.array([2, 0, 0, 0], np.float32), targets)
        yield temp


def mined(runs: TempRuns, run: str = "r", reviewed: Sequence[str] = (), **request: Any) -> dict[str, Any]:
    queue_request = QueueRequest.parse({"budget": 40} | request)
    keys = [UnitKey(identity) for identity in reviewed]
    found = runs.ask(lambda view: create_queue(runs.store, view, queue_request, view.weighting(), keys)[0], run)
    return whole(found)


def review(runs: TempRuns, wrong: Sequence[str], ok: Sequence[str]) -> None:
    reviews = [{"id": identity, "verdict": "wrong"} for identity in wrong]
    reviews += [{"id": identity, "verdict": "ok"} for identity in ok]
    runs.ask(lambda view: add_reviews(runs.store, view, reviews, ANYONE))


def by_strategy(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        strategy: [row["id"] for row in rows if row["strategy"] == strategy]
        for strategy in {row["strategy"] for row in rows}
    }


def test_it_is_the_default_and_mixes_two_margins_until_verdicts_decide(runs: TempRuns) -> None:
    first = mined(runs, name="monday")
    assert first["strategy"] == first["request"]["strategy"] == "recommended"
    assert first["chosen"]["strategy"] == "mix"
    assert first["chosen"]["mix"] == {"logit_margin": 0.5, "adjusted_margin": 0.5}
    assert "Only verdicts can tell" in first["chosen"]["why"]
    found = by_strategy(first["rows"])
    assert min(len(ids) for ids in found.values()) > 10
    same = mined(runs, strategy="mix", mix={"logit_margin": 1, "adjusted_margin": 1})
    assert [row["id"] for row in same["rows"]] == [row["id"] for row in first["rows"]]
    assert "chosen" not in same
    assert whole(queue(runs.store, runs.store.snapshot("r"), "monday")) == first

    review(runs, wrong=found["adjusted_margin"][:1], ok=found["logit_margin"][:2])
    why = mined(runs)["chosen"]["why"]
    assert why.endswith("So far 0 of 2 reviewed rows of logit_margin are wrong, and 1 of 1 of adjusted_margin.")
    review(runs, wrong=found["adjusted_margin"][:8], ok=[*found["adjusted_margin"][8:10], *found["logit_margin"][:9]])
    second = mined(runs, reviewed=[row["id"] for row in first["rows"]])
    assert (second["name"], second["chosen"]["strategy"]) == ("recommended-2", "adjusted_margin")
    assert second["chosen"]["mix"] is None
    # A row in two queues counts once.
    assert second["chosen"]["why"] == (
        "In queues with both, 0 of 9 reviewed rows of logit_margin are wrong, and 8 of 10 of adjusted_margin."
    )
    assert {row["strategy"] for row in second["rows"]} == {"adjusted_margin"}
    assert not {row["id"] for row in second["rows"]} & {row["id"] for row in first["rows"]}
    # The same request for the name returns the queue, although the choice would be another one.
    assert mined(runs, name="monday") == first


def test_verdicts_on_other_queues_do_not_decide(runs: TempRuns) -> None:
    for strategy, word in (("logit_margin", "ok"), ("adjusted_margin", "wrong")):
        ids = [row["id"] for row in mined(runs, strategy=strategy, budget=10)["rows"]]
        review(runs, **{"wrong": [], "ok": []} | {word: ids})
    assert mined(runs)["chosen"]["strategy"] == "mix"


def test_gold_rows_do_not_decide(runs: TempRuns) -> None:
    found = by_strategy(mined(runs, name="first")["rows"])
    reviews = [{"id": identity, "verdict": "wrong", "adjudicate": True} for identity in found["adjusted_margin"][:9]]
    runs.ask(lambda view: add_reviews(runs.store, view, reviews, ANYONE))
    verdicts = runs.store.reviews(runs.store.snapshot("r")).verdicts_of(0)
    queues = runs.ask(lambda view: [*outlines(runs.store, view.snapshot)])
    pair: tuple[Strategy, Strategy] = ("logit_margin", "adjusted_margin")
    before = compare_verdicts(queues, verdicts, pair)
    assert before == (Found(0, 0), Found(9, 9))
    request = QueueRequest.parse({"strategy": "mix", "mix": dict.fromkeys(pair, 1), "budget": 20, "gold": 0.4})
    gold = runs.ask(
        lambda view: create_queue(runs.store, view, request, view.weighting(), verdicts, gold_keys(verdicts))[0]
    )
    marks = gold.marks(GOLD)
    assert marks is not None
    assert marks.sum() == 8
    assert compare_verdicts([gold], verdicts, pair) == (Found(0, 0), Found(0, 0))


def test_with_several_epochs_margins_are_averaged(runs: TempRuns) -> None:
    logits, targets = noisy(200, 4, 3)
    runs.put(logits * 2, targets, epoch=1)
    chosen = mined(runs)["chosen"]
    assert chosen["mix"] == {"area_under_margin": 0.5, "adjusted_margin": 0.5}
    assert chosen["why"].startswith("The run has 2 epochs, and margins averaged over them")
    assert mined(runs, first=1)["chosen"]["mix"] == {"logit_margin": 0.5, "adjusted_margin": 0.5}
    shown = runs.ask(lambda view: preview(runs.store, view, QueueRequest.parse({}), view.weighting(), []))
    assert shown.head["chosen"] == chosen


def test_without_stored_logits_it_ranks_by_the_margin() -> None:
    with temp_runs() as runs:
        runs.create(store_logits=False)
        runs.put(*noisy(30, 3, 0))
        found = mined(runs)
        assert (found["chosen"]["strategy"], found["chosen"]["mix"]) == ("logit_margin", None)
        assert found["chosen"]["why"].endswith("Epoch 0 of run r stores no logits, which adjusted_margin needs.")


@pytest.mark.parametrize(
    ("config", "members", "expected", "is_unit"),
    [
        ({}, {}, "top_loss", True),
        ({}, {"units": False}, "label_quality", False),
        ({"alpha": [0.1, 1.0, 1.0, 2.0]}, {"units": True}, "self_confidence", True),
    ],
)
def test_structured_runs_rank_units_or_whole_examples(
    client: httpx.Client, config: dict[str, Any], members: dict[str, Any], expected: str, is_unit: bool
) -> None:
    Data.of("tokens", 12).put(client, expected, config=config)
    reply = client.post(f"/runs/{expected}/queues", json=members)
    reply.raise_for_status()
    found = reply.json()
    assert (found["strategy"], found["chosen"]["strategy"]) == ("recommended", expected)
    assert {row["unit"] is not None for row in found["rows"]} == {is_unit}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Found(4, 4), Found(0, 4), None),
        (Found(5, 5), Found(0, 5), 0),
        (Found(0, 5), Found(5, 5), 1),
        (Found(10, 20), Found(10, 20), None),
        (Found(10, 20), Found(12, 20), None),
        (Found(10, 20), Found(14, 20), 1),
        (Found(0, 50), Found(0, 50), None),
        (Found(50, 50), Found(50, 50), None),
    ],
)
def test_the_better_strategy_is_more_than_a_standard_error_ahead(
    first: Found, second: Found, expected: int | None
) -> None:
    assert better_of((first, second)) == expected


counts = st.integers(0, 30).flatmap(lambda judged: st.builds(Found, st.integers(0, judged), st.just(judged)))


@given(counts, counts)
def test_the_better_strategy_does_not_depend_on_the_order_and_has_more_wrong_rows(first: Found, second: Found) -> None:
    better, swapped = better_of((first, second)), better_of((second, first))
    assert swapped == (None if better is None else 1 - better)
    if better is not None:
        pair = (first, second)
        assert pair[better].share > pair[1 - better].share
        assert min(first.judged, second.judged) >= MIN_VERDICTS
