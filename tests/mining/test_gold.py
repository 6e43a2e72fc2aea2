"""Gold rows of queues: adjudicated examples, planted at seeded places among the rows of the strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.errors import QueueConflictError
from service.mining.gold import gold_keys
from service.mining.queue_file import queue_content
from service.mining.queue_table import QueueTable
from service.mining.queues import create_queue, queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.runs.review_history import ReviewHistory
from service.schema.people import ANYONE
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

SETTLED = [f"e{row:04d}" for row in range(0, 60, 5)]


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """A run with twelve adjudicated examples, one of them unsure, and one with a verdict of a reviewer."""
    with temp_runs() as temp:
        temp.create()
        temp.put(*noisy(120, 3, 4))
        reviews: list[dict[str, Any]] = [{"id": name, "verdict": "ok", "adjudicate": True} for name in SETTLED]
        reviews[0]["verdict"] = "unsure"
        temp.ask(lambda view: add_reviews(temp.store, view, [*reviews, {"id": "e0001", "verdict": "ok"}], ANYONE))
        yield temp


def history(runs: TempRuns) -> ReviewHistory:
    return runs.store.reviews(runs.store.snapshot("r"))


def created(runs: TempRuns, **members: Any) -> QueueTable:
    request = QueueRequest.parse({"strategy": "logit_margin", "budget": 40, **members})
    verdicts = history(runs).verdicts_of(0)
    return runs.ask(
        lambda view: create_queue(runs.store, view, request, view.weighting(), verdicts, gold_keys(verdicts))[0]
    )


def test_adjudicated_examples_are_planted_at_seeded_places(runs: TempRuns) -> None:
    first = created(runs, gold=0.2)
    gold = first.rows.filter(first.rows["gold"])
    others = [row for row in first.dicts() if not row["gold"]]  # type: ignore[typeddict-item]
    assert set(gold["id"].to_pylist()) < set(SETTLED[1:])
    assert (len(gold), len(others), first.head["warnings"]) == (8, 32, [])
    assert first.rows["rank"].to_pylist() == list(range(1, 41))
    # The other rows are those of a queue without gold rows, in the same order.
    plain = created(runs, budget=32)
    assert [row["id"] for row in others] == plain.ids
    assert first.expected_errors == plain.expected_errors
    places = [created(runs, gold=0.2, seed=seed).rows["gold"].to_pylist() for seed in (0, 0, 1)]
    assert places[0] == places[1] != places[2]


def test_a_queue_with_gold_rows_is_read_back(runs: TempRuns) -> None:
    stored = created(runs, gold=0.2, without_suggestion=0.5, name="kept", overlap=2, blind=True)
    found = queue(runs.store, runs.store.snapshot("r"), "kept")
    assert found.rows.equals(stored.rows)
    assert (found.overlap, found.is_blind, found.head) == (2, True, stored.head)
    hidden = sum(found.rows["without_suggestion"].to_pylist())
    assert 10 <= hidden <= 30


def test_too_few_adjudicated_examples_are_a_warning(runs: TempRuns) -> None:
    few = created(runs, gold=0.5, budget=40)
    assert len(few) == 40
    assert few.rows["gold"].to_pylist().count(True) == 11
    assert few.head["warnings"][0].startswith("11 of 20 gold rows")
    none = created(runs, gold=0.2, only={"ids": ["e0001", "e0002"]}, exclude_reviewed=False)
    assert (none.rows["gold"].to_pylist(), len(none.head["warnings"])) == ([False, False], 1)


def test_gold_rows_are_not_part_of_the_random_sample(runs: TempRuns) -> None:
    mixed = created(runs, strategy="random", gold=0.2)
    rows = list(zip(mixed.rows["gold"].to_pylist(), mixed.rows["control"].to_pylist(), strict=True))
    assert set(rows) == {(True, False), (False, True)}
    assert mixed.expected_errors["random"].num_rows == 40 - rows.count((True, False))


def test_a_queue_of_an_earlier_version_has_one_reviewer_for_each_row(runs: TempRuns) -> None:
    stored = created(runs, name="old", budget=5)
    snapshot = runs.store.snapshot("r")
    lines = b"".join(queue_content(stored))
    for name, value in (("overlap", b"1"), ("blind", b"false"), ("without_suggestion", b"0.0"), ("gold", b"0.0")):
        member = b'"%s":%s,' % (name.encode(), value)
        assert lines.count(member) == 1
        lines = lines.replace(member, b"")
    runs.store.documents.delete(snapshot, "queues", "old")
    assert runs.store.documents.add(snapshot, "queues", "old", [lines])
    found = queue(runs.store, snapshot, "old")
    assert (found.overlap, found.is_blind, "overlap" in found.head["request"]) == (1, False, False)
    assert found.rows.equals(stored.rows)
    # The same request is no conflict; another one is.
    assert created(runs, name="old", budget=5).ids == stored.ids
    with pytest.raises(QueueConflictError, match="overlap"):
        created(runs, name="old", budget=5, overlap=2)
