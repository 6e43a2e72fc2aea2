"""Reviews of units over HTTP: in every state, and with what they must name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.schema.structure import Task
from tests.lanes import mostly_slow
from tests.mining.structured_runs import TASKS, Data, Row


@pytest.fixture(params=mostly_slow(TASKS, quick=2))
def task(request: pytest.FixtureRequest) -> Task:
    name: Task = request.param
    return name


@pytest.fixture
def run(task_runs: httpx.Client, data: dict[Task, Data], task: Task) -> Iterator[str]:
    """A new run of a task, with a queue `all` of its units."""
    path = f"/runs/reviewed-{task}"
    data[task].put(task_runs, path.removeprefix("/runs/"))
    body = {"strategy": "top_loss", "budget": 1000, "name": "all"}
    assert task_runs.post(f"{path}/queues", json=body).status_code == 201
    yield path
    task_runs.delete(path)


def rows_of(client: httpx.Client, run: str, query: str = "") -> list[Row]:
    rows: list[Row] = client.get(f"{run}/queues/all?limit=1000{query}").raise_for_status().json()["rows"]
    return rows


def review(client: httpx.Client, run: str, *reviews: Row) -> dict[str, Any]:
    reply = client.post(f"{run}/reviews", json=list(reviews))
    assert reply.status_code == 201, reply.text
    result: dict[str, Any] = reply.json()
    return result


def keys(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["id"], str(row["unit"])) for row in rows]


def of(row: Row, verdict: str | None, **others: Any) -> Row:
    return {"id": row["id"], "unit": row["unit"], "verdict": verdict} | others


def test_each_unit_has_its_own_verdict_in_every_state(client: httpx.Client, run: str, task: Task) -> None:
    rows = rows_of(client, run)
    words = ["ok", "wrong", "unsure", "wrong"]
    first = rows[:4]
    result = review(client, run, *(of(row, word) for row, word in zip(first, words, strict=True)), of(first[3], None))
    assert (result["added"], result["num_reviewed"]) == (5, 3)
    assert (result["num_ok"], result["num_wrong"], result["num_unsure"]) == (1, 1, 1)
    assert result["precision"]["top_loss"] | {"low": 0, "high": 0} == {
        "reviewed": 3, "judged": 2, "wrong": 1, "unsure": 1, "share": 0.5, "low": 0, "high": 0,
    }  # fmt: skip
    shown = {key: row["verdict"] for key, row in zip(keys(rows), rows_of(client, run), strict=True)}
    assert [shown[key] for key in keys(first)] == ["ok", "wrong", "unsure", None]
    assert sum(verdict is not None for verdict in shown.values()) == 3
    for verdict, expected in (
        ("ok", first[:1]),
        ("wrong", first[1:2]),
        ("unsure", first[2:3]),
        ("reviewed", first[:3]),
    ):
        assert keys(rows_of(client, run, f"&verdict={verdict}")) == keys(expected)
    assert keys(rows_of(client, run, "&verdict=open")) == keys(rows[3:])
    listed = client.get(f"{run}/queues").json()["queues"][0]
    assert (listed["num_reviewed"], listed["num_wrong"], listed["num_ok"], listed["num_unsure"]) == (3, 1, 1, 1)
    example = client.get(f"{run}/examples/{first[1]['id']}").json()
    verdicts = {str(unit["unit"]): unit["verdict"] for unit in example["units"]}
    assert verdicts[str(first[1]["unit"])] == "wrong"
    assert [stored["unit"] for stored in client.get(f"{run}/reviews?history=true").json()["reviews"]] == [
        row["unit"] for row in (*first, first[3])
    ]
    open_rows = client.post(f"{run}/queues?preview=true", json={"strategy": "top_loss", "budget": 1000}).json()
    assert open_rows["num_rows"] == len(rows) - 3
    everything = {"strategy": "top_loss", "budget": 1000, "exclude_reviewed": False}
    assert client.post(f"{run}/queues?preview=true", json=everything).json()["num_rows"] == len(rows)


def test_whole_examples_are_the_control_of_the_error_rate(client: httpx.Client, run: str) -> None:
    body = {"strategy": "random", "budget": 10, "name": "control", "exclude_reviewed": False}
    created = client.post(f"{run}/queues", json=body).json()
    assert created["is_control"]
    drawn = [row["id"] for row in created["rows"]]
    assert [row["unit"] for row in created["rows"]] == [None] * 10
    unit = rows_of(client, run, f"&text={drawn[0]}")
    result = review(client, run, *(of(row, "wrong") for row in unit))
    assert result["error_rate"]["reviewed"] == 0
    whole = [{"id": name, "verdict": "wrong" if place < 4 else "ok"} for place, name in enumerate(drawn)]
    result = review(client, run, *whole)
    assert (result["error_rate"]["reviewed"], result["error_rate"]["share"]) == (10, 0.4)
    assert result["precision"]["top_loss"]["reviewed"] == len(unit)
    again = client.post(f"{run}/queues?preview=true", json=body | {"name": None, "exclude_reviewed": True}).json()
    assert not {row["id"] for row in again["rows"]} & set(drawn)
    assert not again["is_control"]


def test_the_right_class_of_a_unit(client: httpx.Client, run: str, task: Task) -> None:
    row = rows_of(client, run)[0]
    label = {"multi_label": 1 - row["target"], "tokens": "LOC", "masks": "car"}[task]
    review(client, run, of(row, "wrong", label=label), of(row, "wrong"), of(row, "ok"))
    stored = [given["label"] for given in client.get(f"{run}/reviews?history=true").json()["reviews"]]
    if task == "multi_label":
        # A label is absent or present: the right class follows from the verdict.
        assert stored == [label, label, None]
    else:
        assert stored == [{"tokens": 3, "masks": 2}[task], None, None]


LONG = 10**6
BAD: dict[Task, list[tuple[Row, str, str]]] = {
    "multi_label": [
        ({"unit": 5}, "unit", "label 5 is outside [0, 5)"),
        ({"unit": "beech"}, "unit", "beach"),
        ({"unit": [0, 1]}, "unit", "a label, by number or name"),
        ({"unit": 0, "label": 2}, "label", "neither 0 (absent) nor 1 (present)"),
        ({"unit": 0, "label": "beach"}, "label", "neither 0 (absent) nor 1 (present)"),
        ({"label": 1}, "label", "name a unit"),
        ({"unit": -1}, "unit", "greater than or equal to 0"),
    ],
    "tokens": [
        ({"unit": [0, LONG]}, "unit", "has no unit [0, 1000000]"),
        ({"unit": [0, 0]}, "unit", "has no unit [0, 0]"),
        ({"unit": [1, 0]}, "unit", "has no unit [1, 0]"),
        ({"unit": 0}, "unit", "a span of tokens, [start, stop)"),
        ({"unit": [0]}, "unit", "at least 2"),
        ({"unit": [0, 10**12]}, "unit", "less than 2147483648"),
        ({"unit": [0, 1], "label": 4}, "label", "class 4 is outside [0, 4)"),
        ({"label": "PER"}, "label", "name a unit"),
    ],
    "masks": [
        ({"unit": LONG}, "unit", "has no unit 1000000"),
        ({"unit": [0, 1]}, "unit", "the number of a region"),
        ({"unit": 0, "label": 3}, "label", "class 3 is outside [0, 3)"),
        ({"unit": 10**12}, "unit", "less than 2147483648"),
        ({"unit": "0"}, "unit", "the number of a region"),
        ({"unit": True}, "unit", ""),
    ],
}  # fmt: skip


def test_a_unit_or_label_that_is_not_there_is_named_and_nothing_is_stored(
    client: httpx.Client, run: str, task: Task
) -> None:
    row = rows_of(client, run)[0]
    for bad, member, words in BAD[task]:
        reply = client.post(f"{run}/reviews", json=[of(row, "ok"), {"id": row["id"], "verdict": "wrong"} | bad])
        assert reply.status_code == 422, bad
        problem = reply.json()
        assert problem["errors"][0]["loc"][:2] == [1, member], bad
        assert words in problem["detail"], problem["detail"]
    assert client.get(f"{run}/reviews?history=true").json()["reviews"] == []


def test_examples_with_one_class_have_no_units(task_runs: httpx.Client) -> None:
    reply = task_runs.post("/runs/classification/reviews", json=[{"id": "a", "verdict": "ok", "unit": 0}])
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == [0, "unit"]
    review(task_runs, "/runs/classification", {"id": "a", "verdict": "ok", "unit": None})
    (stored,) = task_runs.get("/runs/classification/reviews").json()["reviews"]
    assert "unit" not in stored


def test_a_label_may_be_named(client: httpx.Client, data: dict[Task, Data]) -> None:
    data["multi_label"].put(client, "named-labels")
    given = data["multi_label"].examples[0]
    target = int(given.targets[0])
    review(client, "/runs/named-labels", {"id": given.id, "unit": "beach", "verdict": "wrong"})
    (stored,) = client.get("/runs/named-labels/reviews").json()["reviews"]
    assert (stored["unit"], stored["label"]) == (0, 1 - target)


def test_a_verdict_on_a_region_is_of_its_epoch(client: httpx.Client) -> None:
    """Region 0 of another epoch consists of other pixels; labels and spans are the same in all epochs."""
    Data.of("masks", seed=1).put(client, "epochs")
    body = {"strategy": "top_loss", "budget": 1000, "name": "all", "epoch": 0}
    first = client.post("/runs/epochs/queues", json=body).json()["rows"][0]
    Data.of("masks", seed=2).put(client, "epochs", epoch=1)
    later = client.post("/runs/epochs/queues", json=body | {"name": "later", "epoch": 1}).json()
    unit = next(row for row in later["rows"] if row["unit"] == 0)
    # Of the queue, then of the last epoch.
    review(client, "/runs/epochs", of(first, "wrong", queue="all"), of(unit, "ok"))
    stored = client.get("/runs/epochs/reviews?history=true").json()["reviews"]
    assert [given["epoch"] for given in stored] == [0, 1]
    counts = {
        queue["name"]: (queue["num_wrong"], queue["num_ok"])
        for queue in client.get("/runs/epochs/queues").json()["queues"]
    }
    assert counts == {"all": (1, 0), "later": (0, 1)}
    for epoch, number in ((0, first["id"]), (1, unit["id"])):
        left = client.post("/runs/epochs/queues?preview=true", json=body | {"name": None, "epoch": epoch}).json()
        stored_rows = client.get(f"/runs/epochs/queues/{'later' if epoch else 'all'}").json()["num_rows"]
        assert left["num_rows"] == stored_rows - 1, number


def test_a_region_that_only_the_queue_has_can_be_reviewed(client: httpx.Client) -> None:
    Data.of("masks", seed=1).put(client, "changed")
    body = {"strategy": "top_loss", "budget": 1000, "name": "all", "epoch": 0}
    rows = client.post("/runs/changed/queues", json=body).json()["rows"]
    Data.of("masks", seed=2).put(client, "changed", epoch=1)
    regions = {
        name: client.get(f"/runs/changed/examples/{name}").json()["num_units"] for name in {row["id"] for row in rows}
    }
    gone = next(row for row in rows if row["unit"] >= regions[row["id"]])
    reply = client.post("/runs/changed/reviews", json=[of(gone, "wrong")])
    assert reply.status_code == 422
    assert f"has no unit {gone['unit']}" in reply.json()["detail"]
    review(client, "/runs/changed", of(gone, "wrong", queue="all"))
