"""Pages of a queue: every filter and order, compared with a scan of the rows in Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from service.errors import InvalidRequestError, UnknownQueueError
from service.mining.listing import (
    MAX_FACET_VALUES,
    SORTABLE,
    QueueFilter,
    page,
    parse_order,
)
from service.mining.queue_table import QueueTable
from service.mining.queues import create_queue, outlines, queue
from service.mining.requests import QueueRequest
from service.mining.visibility import QueueOf
from service.queries.view import View
from service.runs.units import UnitKey
from service.schema.people import ANYONE
from tests.runs.histories import history_of
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

ROWS = 150
HISTORY = history_of(
    *(
        {"id": f"e{number:04d}", "verdict": ["ok", "wrong", "unsure", "exclude"][number // 4 % 4], "label": number % 2}
        for number in range(0, ROWS, 4)
    ),
    *({"id": f"e{number:04d}", "verdict": "ok", "label": 2, "reviewer": "kim"} for number in range(0, ROWS, 20)),
)


def attributes_of(row: int) -> dict[str, Any]:
    """Quotes, umlauts, numbers, names with special characters of JSON pointers and SQL; some rows lack attributes."""
    attributes: dict[str, Any] = {
        "text": f'Größe {row} "quoted"\nline {row % 7}',
        "a/b~c'd": ["kim", "lee"][row % 2],
        "size": row % 5 / 2,
        "": row % 3 == 0,
    }
    return attributes | ({"rare": "ja"} if row % 10 == 0 else {})


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """A mix of strategies, whose rows have different members; attributes change in the second epoch."""
    with temp_runs() as temp:
        temp.create()
        logits, targets = noisy(ROWS, 4, 11)
        temp.put(logits, targets, attributes={"text": ["before"] * ROWS, "gone": ["x"] * ROWS})
        names = ("text", "a/b~c'd", "size", "", "rare")
        columns = {name: [attributes_of(row).get(name) for row in range(ROWS)] for name in names}
        temp.put(logits[::-1].copy(), targets[::-1].copy(), [f"e{row:04d}" for row in reversed(range(ROWS))], epoch=1,
                 attributes={name: values[::-1] for name, values in columns.items()})  # fmt: skip
        request = {"strategy": "mix", "mix": {"area_under_margin": 0.5, "random": 0.5}, "budget": 130, "name": "q"}
        queue_request = QueueRequest.parse(request)
        temp.ask(lambda view: create_queue(temp.store, view, queue_request, view.weighting(), []))
        yield temp


@pytest.fixture(scope="module")
def rows(runs: TempRuns) -> list[dict[str, Any]]:
    """The stored rows, with the current attributes and verdicts."""
    stored = queue(runs.store, runs.store.snapshot("r"), "q").dicts()
    for row in stored:
        key = UnitKey(row["id"])
        standing, last = HISTORY.verdicts.get(key), HISTORY.last_review(key)
        row |= {"attributes": attributes_of(int(row["id"][1:]))}
        row |= {"verdict": standing and standing.verdict, "verdict_label": standing and standing.label}
        row |= {"review": last and last["review"], "reviews": shown_reviews(standing.reviews if standing else ())}
        row |= {"done": standing is not None, "suggestion": "shown"}
    return list(stored)


def shown_reviews(reviews: Any) -> list[dict[str, Any]]:
    names = ("review", "reviewer", "verdict", "label", "comment", "at")
    return [{name: review[name] for name in names} | {"adjudicated": False} for review in reviews]


def page_of(runs: TempRuns, **query: Any) -> dict[str, Any]:
    stored = queue(runs.store, runs.store.snapshot("r"), "q")
    return runs.ask(lambda view: whole_page(view, stored, HISTORY, QueueFilter(**query)))


def whole_page(view: View, stored: QueueTable, history: Any, query: QueueFilter) -> dict[str, Any]:
    """A page with all of its rows, which are made while they are read."""
    result = page(view, QueueOf(stored, history, ANYONE), query)
    return {**result, "rows": [*result["rows"]]}


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def matches(row: dict[str, Any], query: dict[str, Any]) -> bool:
    if any(row[name] not in labels for name, labels in query.get("classes", {}).items()):
        return False
    verdict = query.get("verdict")
    if (verdict == "open" and row["verdict"]) or (verdict == "reviewed" and not row["verdict"]):
        return False
    if verdict not in (None, "open", "reviewed") and row["verdict"] != verdict:
        return False
    texts = {name: text_of(value) for name, value in row["attributes"].items() if value is not None}
    if any(texts.get(name) != text for name, text in query.get("attributes", {}).items()):
        return False
    sought = query.get("text", "").lower()
    if not any(sought in text.lower() for text in (row["id"], *texts.values())):
        return False
    return "ranks" not in query or row["rank"] in query["ranks"]


def in_order(rows: list[dict[str, Any]], order: tuple[tuple[str, bool], ...]) -> list[dict[str, Any]]:
    """Sort by each key separately, the last key first; this works since Python's sort is stable."""
    for name, descending in reversed(order):
        not_null = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=descending)
        rows = not_null + [row for row in rows if row[name] is None]
    return rows


def random_query(generator: random.Random) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "classes": {
            generator.choice(["target", "prediction", "suggested"]): generator.sample(range(4), generator.randint(1, 2))
        },
        "verdict": generator.choice(["open", "reviewed", "ok", "wrong", "unsure", "exclude", "conflict"]),
        "attributes": generator.choice(
            [
                {"a/b~c'd": "kim"},
                {"size": "1.5"},
                {"": "true"},
                {"rare": "ja"},
                {"gone": "x"},
                {"size": "0.0", "": "false"},
            ]
        ),
        "text": generator.choice(["GRÖSSE", "größe 1", "E00", '"QUOTED"\nline 3', "kim", "1.5", "rare", "%", "_"]),
        "ranks": generator.sample(range(1, 200), 60),
    }
    names = generator.sample(sorted(choices), generator.randrange(4))
    result = {name: choices[name] for name in names}
    keys = generator.sample(SORTABLE, generator.randrange(4))
    return result | {"order": tuple((key, generator.random() < 0.5) for key in keys)}


def test_filters_and_orders_equal_a_scan(runs: TempRuns, rows: list[dict[str, Any]]) -> None:
    generator, sizes = random.Random(5), set()
    for _ in range(80):
        query = random_query(generator)
        expected = in_order([row for row in rows if matches(row, query)], query["order"])
        offset, limit = generator.randrange(20), generator.choice([1, 7, 100_000])
        result = page_of(runs, **query, offset=offset, limit=limit)
        assert result["num_matching"] == len(expected), query
        assert [row["id"] for row in result["rows"]] == [row["id"] for row in expected][offset : offset + limit], query
        sizes.add(len(expected))
    assert len(sizes) > 20


def test_rows_have_the_current_attributes_and_verdicts(runs: TempRuns, rows: list[dict[str, Any]]) -> None:
    result = page_of(runs, limit=1000)
    for row, expected in zip(result["rows"], rows, strict=True):
        assert row | {"attributes": None} == expected | {"attributes": None}
        assert {name: value for name, value in row["attributes"].items() if value is not None} == expected["attributes"]
    assert {("num_epochs" in row) for row in result["rows"]} == {True, False}
    assert {row["suggested"] is None for row in result["rows"]} == {True, False}
    short = page_of(runs, fields=["verdict", "rank"], limit=2, offset=1)
    assert [list(row.items()) for row in short["rows"]] == [
        [("verdict", row["verdict"]), ("rank", row["rank"])] for row in rows[1:3]
    ]


def test_a_page_around_a_rank_contains_the_row(runs: TempRuns, rows: list[dict[str, Any]]) -> None:
    order = (("entropy", True),)
    expected = [row["rank"] for row in in_order([row for row in rows if row["target"] == 1], order)]
    for rank in expected:
        result = page_of(runs, classes={"target": [1]}, order=order, around=rank, limit=7)
        assert result["offset"] == expected.index(rank) // 7 * 7
        assert rank in [row["rank"] for row in result["rows"]]
    absent = next(row["rank"] for row in rows if row["target"] != 1)
    for rank in (absent, 0, 100_000):
        assert page_of(runs, classes={"target": [1]}, around=rank, limit=7)["offset"] == 0
    assert page_of(runs, around=130, limit=100)["offset"] == 100
    beyond = page_of(runs, offset=1000)
    assert (beyond["rows"], beyond["num_matching"]) == ([], 130)


def test_facets_are_the_current_attributes_with_few_values(runs: TempRuns, rows: list[dict[str, Any]]) -> None:
    expected: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row["attributes"].items():
            expected.setdefault(name, set()).add(text_of(value))
    few = {name: sorted(texts) for name, texts in expected.items() if len(texts) <= MAX_FACET_VALUES}
    assert page_of(runs, facets=True, classes={"target": [9]})["attributes"] == few
    assert "text" in expected.keys() - few.keys()
    assert "attributes" not in page_of(runs)


def test_unknown_names_are_errors(runs: TempRuns) -> None:
    assert parse_order("-loss, target") == (("loss", True), ("target", False))
    for refused in (lambda: parse_order("loss,nothing"), lambda: parse_order("")):
        with pytest.raises(InvalidRequestError):
            refused()
    with pytest.raises(InvalidRequestError, match="nothing"):
        page_of(runs, fields=["rank", "nothing"])
    with pytest.raises(UnknownQueueError):
        queue(runs.store, runs.store.snapshot("r"), "other")


def test_filters_of_a_queue_without_rows_and_attributes() -> None:
    with temp_runs() as runs:
        runs.create()
        runs.put(np.zeros((3, 2)), [0, 0, 0])
        queue_request = QueueRequest.parse({"strategy": "suspected_errors", "name": "none"})
        stored = runs.ask(lambda view: create_queue(runs.store, view, queue_request, view.weighting(), [])[0])
        assert stored.dicts() == []
        assert [len(outline) for outline in outlines(runs.store, runs.store.snapshot("r"))] == [0]
        everything = QueueFilter(
            classes={"suggested": [1]}, verdict="open", attributes={"a": "b"}, text="x", ranks=[1], facets=True,
            order=tuple((name, True) for name in SORTABLE), around=3,
        )  # fmt: skip
        for same in (stored, queue(runs.store, runs.store.snapshot("r"), "none")):
            result = runs.ask(lambda view, same=same: whole_page(view, same, history_of(), everything))
            assert result == {
                "num_matching": 0,
                "offset": 0,
                "rows": [],
                "attributes": {},
            }
