"""Files with verdicts over HTTP: exports come back, the same file again changes nothing, errors name the row."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.exports.formats import FORMATS
from tests.contract.test_structured_exports import BATCHES, NUMBERS
from tests.exports.test_review_round_trip import texts
from tests.lanes import mostly_slow

IDS = ["=1+1", "a\nb", "007", "aGVsbG8=", "'it's", "5", "+x,y"]
NAMES = [" 1", "2", "tench, Tinca", "größe"]
CSV, LINES = {"Content-Type": "text/csv"}, {"Content-Type": "application/x-ndjson"}
PATHS = ("/runs/review-files", "/runs/review-files-again")
REVIEWS = [
    {"id": IDS[0], "verdict": "wrong", "label": 0, "reviewer": "kim", "comment": "=cat?\n"},
    {"id": IDS[1], "verdict": "ok", "reviewer": "kim"},
    {"id": IDS[2], "verdict": "exclude", "comment": "blurred"},
    {"id": IDS[3], "verdict": "ok", "reviewer": "kim"},
    {"id": IDS[3], "verdict": "wrong", "label": 1, "reviewer": "lee"},
    {"id": IDS[4], "verdict": "wrong"},
    {"id": IDS[4], "verdict": "wrong", "label": 3, "reviewer": "lee"},
    {"id": IDS[5], "verdict": "unsure"},
]
# Those of FiftyOne have no units.
STRUCTURED = [
    (task, format)
    for task in ("tokens", "multi_label", "masks")
    for format in ("label-studio", "csv", "jsonl", "parquet", "argilla")
    if task in FORMATS[format].tasks
]


@pytest.fixture
def run(client: httpx.Client) -> Iterator[str]:
    """A run with reviews, and another one with the same rows and none."""
    for path in PATHS:
        client.delete(path)
        client.put(path, json={"class_names": NAMES}).raise_for_status()
        body = {"logits": [[3, 2, 1, 0]] * 7, "targets": [2] * 7, "ids": IDS}
        client.put(f"{path}/epochs/0/batches/b", json=body | {"attributes": {"comment": IDS}}).raise_for_status()
    assert post(client, PATHS[0], REVIEWS)["added"] == len(REVIEWS)
    yield PATHS[0]
    for path in PATHS:
        client.delete(path)


def post(client: httpx.Client, path: str, content: Any, headers: Any = None, **query: Any) -> Any:
    body = {"json": content} if headers is None else {"content": content, "headers": headers}
    reply = client.post(f"{path}/reviews", params=query, **body)
    assert reply.status_code == 201, reply.text
    return reply.json()


def export(client: httpx.Client, path: str, format: str, **query: Any) -> tuple[bytes, dict[str, str]]:
    """The file, and the header with which it is sent back."""
    reply = client.get(f"{path}/export", params={"format": format, **query})
    assert reply.status_code == 200, reply.text
    return reply.content, {"Content-Type": reply.headers["content-type"]}


def verdicts(client: httpx.Client, path: str, **query: Any) -> set[tuple[Any, ...]]:
    rows = [json.loads(line) for line in export(client, path, "jsonl", **query)[0].splitlines()]
    members = ("id", "verdict", "verdict_label", "comment")
    return {(str(row.get("unit")), *(row[name] for name in members)) for row in rows if row["verdict"]}


def counts(reply: Any) -> tuple[int, int, int]:
    return reply["added"], reply["unchanged"], reply["left_out"]


def filled_in(content: bytes, changes: dict[str, dict[str, str]]) -> bytes:
    """A CSV file with other cells in the rows of some ids."""
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({**row, **changes.get(row["id"], {})} for row in rows)
    return text.getvalue().encode()


@pytest.mark.parametrize("format", mostly_slow(FORMATS, quick=2))
def test_an_export_comes_back_to_the_same_verdicts(client: httpx.Client, run: str, format: str) -> None:
    content, headers = export(client, run, format)
    # Nobody has touched a row, and one has the verdict `conflict`.
    assert counts(post(client, run, content, headers, reviewer="max")) == (0, 5, 2)
    other = PATHS[1]
    assert counts(post(client, other, content, headers, reviewer="max")) == (5, 0, 2)
    expected = {row for row in verdicts(client, run) if row[2] != "conflict"}
    assert verdicts(client, other) == expected
    assert {review["reviewer"] for review in client.get(f"{other}/reviews").json()["reviews"]} == {"max"}
    assert counts(post(client, other, content, headers, reviewer="max")) == (0, 5, 2)


reviewed = st.fixed_dictionaries(
    {"verdict": st.sampled_from(["ok", "wrong", "unsure", "exclude"])},
    optional={
        "label": st.integers(0, 1),
        "comment": texts,
        "reviewer": st.sampled_from(["kim", "lee"]) | texts,
    },
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(texts, min_size=1, max_size=4, unique=True),
    st.lists(texts, min_size=2, max_size=2, unique=True),
    st.data(),
)
def test_any_reviews_come_back_in_every_format(
    client: httpx.Client, ids: list[str], names: list[str], data: st.DataObject
) -> None:
    reviews = [
        {"id": identity, **one} for identity in ids for one in data.draw(st.lists(reviewed, max_size=3), label=identity)
    ]
    for path in PATHS:
        client.delete(path)
        client.put(path, json={"class_names": names}).raise_for_status()
        body = {"logits": [[1, 2]] * len(ids), "targets": [0] * len(ids), "ids": ids}
        client.put(f"{path}/epochs/0/batches/b", json=body).raise_for_status()
    post(client, PATHS[0], reviews)
    expected = {row for row in verdicts(client, PATHS[0]) if row[2] != "conflict"}
    for format in FORMATS:
        content, headers = export(client, PATHS[0], format)
        if format == "fiftyone" and len(json.loads(content)["labels"]) < len(ids):
            continue  # it tells images apart by their paths without extensions
        assert post(client, PATHS[0], content, headers, reviewer="max")["added"] == 0
        assert post(client, PATHS[1], content, headers, reviewer=format)["added"] == len(expected)
        assert verdicts(client, PATHS[1]) == expected


@pytest.mark.parametrize(("task", "format"), mostly_slow(STRUCTURED, quick=1))
def test_the_verdicts_of_units_come_back(client: httpx.Client, task: str, format: str) -> None:
    description, batch = BATCHES[task]
    for path in PATHS:
        client.delete(path)
        client.put(path, json={"task": task} | description).raise_for_status()
        body = batch | {"ids": [f"e{row}" for row in range(NUMBERS[task])]}
        client.put(f"{path}/epochs/0/batches/b", json=body).raise_for_status()
    rows = [json.loads(line) for line in export(client, PATHS[0], "jsonl")[0].splitlines()]
    reviews = [{"id": row["id"], "unit": row["unit"], "verdict": "wrong", "label": 1} for row in rows[:2]]
    reviews.append({"id": "e0", "verdict": "exclude", "comment": "dark"})
    post(client, PATHS[0], reviews)
    files = [export(client, PATHS[0], format)]
    # A table has units, or whole examples.
    files += [] if FORMATS[format].is_tool else [export(client, PATHS[0], format, units="false")]
    added = sum(post(client, PATHS[1], content, headers)["added"] for content, headers in files)
    assert added == 3
    for query in ({}, {"units": "false"}):
        assert verdicts(client, PATHS[1], **query) == verdicts(client, PATHS[0], **query)
    for path in PATHS:
        client.delete(path)


def test_only_what_a_person_has_changed_is_his(client: httpx.Client, run: str) -> None:
    content, headers = export(client, run, "csv")
    later = filled_in(content, {"5": {"verdict": "ok"}, "007": {"comment": "too dark"}, "'+x,y": {"verdict": "unsure"}})
    # A row that was exported with an earlier verdict is no review either.
    post(client, run, [{"id": "a\nb", "verdict": "exclude", "reviewer": "kim"}])
    assert counts(post(client, run, later, headers, reviewer="max")) == (3, 3, 1)
    mine = [review for review in client.get(f"{run}/reviews").json()["reviews"] if review["reviewer"] == "max"]
    assert {(review["id"], review["verdict"], review["comment"]) for review in mine} == {
        ("007", "exclude", "too dark"),
        ("5", "ok", None),
        ("+x,y", "unsure", None),
    }
    current = {row[1]: row[2] for row in verdicts(client, run)}
    assert (current["5"], current["007"], current["a\nb"]) == ("conflict", "exclude", "exclude")
    assert counts(post(client, run, later, headers, reviewer="max")) == (0, 6, 1)


@pytest.mark.slow
def test_an_owner_settles_conflicts_in_a_file(client: httpx.Client, run: str) -> None:
    content, headers = export(client, run, "csv")
    settled = filled_in(content, {"aGVsbG8=": {"verdict": "wrong", "verdict_label": "größe"}})
    assert counts(post(client, run, settled, headers, reviewer="ada", adjudicate="true")) == (1, 5, 1)
    current = {row[1]: row[2:4] for row in verdicts(client, run)}
    assert current["aGVsbG8="] == ("wrong", "größe")
    assert counts(post(client, run, settled, headers, reviewer="ada", adjudicate="true")) == (0, 6, 1)


@pytest.mark.slow
def test_the_last_row_about_an_example_counts(client: httpx.Client, run: str) -> None:
    verdicts = [("ok", None), ("wrong", None), ("ok", "lee")]
    rows = [{"id": "007", "verdict": verdict, "reviewer": reviewer} for verdict, reviewer in verdicts]
    content = "\n".join(map(json.dumps, rows)).encode()
    assert counts(post(client, run, content, LINES, reviewer="max", queue="monday")) == (2, 1, 0)
    assert counts(post(client, run, content, LINES, reviewer="max")) == (0, 3, 0)
    reviews = {one["reviewer"]: one for one in client.get(f"{run}/reviews").json()["reviews"] if one["id"] == "007"}
    assert (reviews["max"]["verdict"], reviews["lee"]["verdict"], reviews["max"]["queue"]) == ("wrong", "ok", "monday")


ERRORS = [
    (b"id,verdict\n007,ok\n7,ok\n", CSV, {}, 404, "row 1, column 'id': run review-files has no example '7'; spread"),
    (b"id,verdict,label\n007,,\n5,wrong,owl\n", CSV, {}, 422, "row 1, column 'label': 'owl' is not the name of a"),
    (b"id,verdict\n5,ok\n007,ok\n", CSV, {"queue": "q"}, 422, "column 'id': queue q has no example"),
    (b"id,verdict,label\n5,wrong,9\n", CSV, {}, 422, "row 0, column 'label': class 9 is outside [0, 4)"),
    (b"id,verdict\n5,fine\n", CSV, {}, 422, "row 0, column 'verdict': 'fine' is not one of ok, wrong, unsure"),
    (b"\x00", {"Content-Type": "application/vnd.apache.parquet"}, {}, 400, "parquet"),
    (b"<xml/>", {"Content-Type": "text/xml"}, {}, 415, "known are application/json, application/x-ndjson, text/csv"),
    (b"id,verdict\n5,ok\n", CSV | {"Content-Encoding": "br"}, {}, 415, "Content-Encoding 'br'"),
    (b"id,verdict\n5,ok\n", CSV, {"owner": "x"}, 422, "owner"),
    (b"id,verdict\n5,ok\n", CSV, {"adjudicate": "perhaps"}, 422, "adjudicate"),
]


@pytest.mark.parametrize(("content", "headers", "query", "status", "says"), mostly_slow(ERRORS, quick=2))
def test_an_error_names_the_row_and_nothing_is_stored(
    client: httpx.Client, run: str, content: bytes, headers: Any, query: Any, status: int, says: str
) -> None:
    queue = {"name": "q", "strategy": "random", "budget": 1, "exclude_reviewed": False}
    client.post(f"{run}/queues", json=queue).raise_for_status()
    before = client.get(f"{run}/reviews?history=true").json()["reviews"]
    reply = client.post(f"{run}/reviews", content=content, headers=headers, params=query)
    assert (reply.status_code, says in reply.json()["detail"]) == (status, True), reply.text
    if status in (404, 422) and says.startswith("row"):
        row, column = says.split(",", maxsplit=1)[0].split()[1], says.split("'")[1]
        assert reply.json()["errors"][0]["loc"] == [int(row), column]
    assert client.get(f"{run}/reviews?history=true").json()["reviews"] == before


@pytest.mark.slow
def test_a_compressed_file_and_a_list_with_defaults(client: httpx.Client, run: str) -> None:
    content = gzip.compress(b"id\tverdict\n5\tok\n")
    headers = {"Content-Type": "text/tab-separated-values", "Content-Encoding": "gzip"}
    assert counts(post(client, run, content, headers, reviewer="max")) == (1, 0, 0)
    reviews = [{"id": "5", "verdict": "ok"}, {"id": "007", "verdict": "ok", "reviewer": "lee"}]
    reply = post(client, run, reviews, reviewer="ann")
    assert (counts(reply), len(reply["reviews"])) == ((2, 0, 0), 2)
    stored = client.get(f"{run}/reviews").json()["reviews"]
    assert {one["reviewer"] for one in stored if one["id"] in ("5", "007")} == {"max", "ann", "lee", None}


def annotation(number: int, label: str | None, updated_at: str = "2026-11-30T12:00:00.000001Z") -> dict[str, Any]:
    result = [] if label is None else [{"from_name": "label", "type": "choices", "value": {"choices": [label]}}]
    times = {"created_at": updated_at, "updated_at": updated_at}
    return {
        "id": number,
        "unique_id": f"u-{number}",
        "completed_by": 7,
        "was_cancelled": False,
        "result": result,
        **times,
    }


@pytest.mark.parametrize("media_type", mostly_slow(["application/json", "application/x-ndjson"], quick=1))
def test_an_export_of_label_studio_is_read_by_its_annotations(client: httpx.Client, run: str, media_type: str) -> None:
    exported, _ = export(client, run, "label-studio")
    tasks = json.loads(exported)
    for number, task in enumerate(tasks):
        task |= {"id": 400 + number, "annotations": []}
    by_id = {task["data"]["external_id"]: task for task in tasks}
    by_id["5"]["annotations"] = [annotation(1, "2")]
    by_id["+x,y"]["annotations"] = [annotation(2, by_id["+x,y"]["data"]["given_label"])]
    content, headers = json.dumps(tasks).encode(), {"Content-Type": media_type}
    assert counts(post(client, run, content, headers)) == (2, 0, 5)
    assert counts(post(client, run, content, headers)) == (0, 2, 5)
    of_tool = [one for one in client.get(f"{run}/reviews").json()["reviews"] if "source" in one]
    assert {(one["id"], one["verdict"], one["label"], one["reviewer"]) for one in of_tool} == {
        ("5", "wrong", 1, "label-studio:7"),
        ("+x,y", "ok", None, "label-studio:7"),
    }
    # All or none: one annotation is no class of the run.
    by_id["007"]["annotations"] = [annotation(3, "owl")]
    by_id["5"]["annotations"] = [annotation(1, "größe", "2026-11-30T13:00:00Z")]
    reply = client.post(f"{run}/reviews", content=json.dumps(tasks).encode(), headers=headers)
    assert (reply.status_code, "owl" in reply.json()["detail"]) == (422, True), reply.text
    assert [one for one in client.get(f"{run}/reviews").json()["reviews"] if "source" in one] == of_tool


@pytest.mark.slow
def test_a_file_without_suggestions_tells_none_and_its_reviews_say_so(client: httpx.Client, run: str) -> None:
    queue = {"name": "blank", "strategy": "top_loss", "budget": 7, "without_suggestion": 1, "exclude_reviewed": False}
    client.post(f"{run}/queues", json=queue).raise_for_status()
    suggestions = ("prediction", "suggested", "suggested_label", "suggested_p")
    rows = {row["id"]: row for row in map(json.loads, export(client, run, "jsonl", queue="blank")[0].splitlines())}
    hidden = {name for name, row in rows.items() if all(row[member] is None for member in suggestions)}
    # The rows without a verdict; a tool shows none at all.
    assert hidden == {"+x,y"}
    assert [rows[name]["suggestion"] for name in ("+x,y", "5")] == ["hidden", "shown"]
    assert "hidden" in rows["+x,y"]["reason"]
    tasks = json.loads(export(client, run, "label-studio", queue="blank")[0])
    assert [task["predictions"][0]["result"] for task in tasks] == [[]] * 7
    content, headers = export(client, run, "csv", queue="blank")
    filled = filled_in(content, {"'+x,y": {"verdict": "ok"}, "5": {"verdict": "ok"}})
    assert counts(post(client, run, filled, headers, reviewer="max", queue="blank")) == (2, 4, 1)
    stored = client.get(f"{run}/reviews").json()["reviews"]
    assert {one["suggestion"] for one in stored if one["reviewer"] == "max"} == {"hidden"}
