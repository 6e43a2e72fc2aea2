"""Annotations and their consensus over HTTP: every format, idempotence, replaced labels, errors, pages and queues."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.diagnostics.annotators.crowds import FIXTURE
from tests.services import ClientWith

RUN = "annotators"
PATH = f"/runs/{RUN}/annotations"
NAMES = ["cat", "dog", "owl"]
IDS = list("abcdefgh")
ANNOTATORS = ["kim", "lee", "mia"]
ROWS: list[dict[str, Any]] = [
    {"id": IDS[example], "annotator": ANNOTATORS[annotator], "label": int(FIXTURE.labels[example, annotator])}
    for example, annotator in np.argwhere(~np.isnan(FIXTURE.labels))
]


@pytest.fixture
def run(client: httpx.Client) -> Iterator[httpx.Client]:
    """A client of a service with the run of `FIXTURE`, whose last row has another label than its consensus."""
    client.delete(f"/runs/{RUN}")
    client.put(f"/runs/{RUN}", json={"class_names": NAMES}).raise_for_status()
    batch = {"logits": np.log(FIXTURE.p).tolist(), "targets": [0, 1, 2, 2, 1, 0, 2, 1], "ids": IDS}
    client.put(f"/runs/{RUN}/epochs/0/batches/b", json=batch).raise_for_status()
    yield client
    client.delete(f"/runs/{RUN}")


def text(separator: str) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=separator)
    # Other columns do not count.
    writer.writerow(["when", "label", "id", "annotator"])
    writer.writerows(["2026", NAMES[row["label"]], row["id"], row["annotator"]] for row in ROWS)
    return sink.getvalue().encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def arrow(new: Callable[..., Any]) -> bytes:
    table = pa.Table.from_pylist(ROWS)
    table = table.set_column(1, "annotator", table["annotator"].dictionary_encode())
    sink = pa.BufferOutputStream()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


TABLES: dict[str, Callable[[], bytes]] = {
    "text/csv": lambda: text(","),
    "text/csv; delimiter=semicolon": lambda: text(";"),
    "text/tab-separated-values": lambda: text("\t"),
    "application/vnd.apache.parquet": parquet,
    "application/vnd.apache.arrow.file": lambda: arrow(pa.ipc.new_file),
    "application/vnd.apache.arrow.stream": lambda: arrow(pa.ipc.new_stream),
}


def effect(added: int, changed: int, unchanged: int, total: int) -> dict[str, int]:
    return {"added": added, "changed": changed, "unchanged": unchanged, "num_annotations": total}


@pytest.mark.parametrize("kind", TABLES)
def test_every_format_says_the_same(run: httpx.Client, kind: str) -> None:
    first = run.put(PATH, json=ROWS)
    assert (first.status_code, first.json()) == (201, effect(21, 0, 0, 21))
    again = run.put(PATH, content=TABLES[kind](), headers={"Content-Type": kind})
    assert (again.status_code, again.json()) == (200, effect(0, 0, 21, 21))


def test_another_label_of_the_same_annotator_replaces_the_first(run: httpx.Client) -> None:
    run.put(PATH, json=ROWS)
    changed = [{"id": "a", "annotator": "kim", "label": "owl"}, {"id": "a", "annotator": 7, "label": 2}]
    reply = run.put(PATH, json=[*changed, ROWS[1]])
    assert (reply.status_code, reply.json()) == (201, effect(1, 1, 1, 22))
    row = next(row for row in run.get(f"/runs/{RUN}/consensus").json()["rows"] if row["id"] == "a")
    # Only lee still names the consensus, 0.
    assert (row["num_annotations"], row["consensus"], row["agreement"]) == (4, 0, 0.25)


def test_the_consensus_equals_cleanlab(run: httpx.Client) -> None:
    run.put(PATH, json=ROWS)
    expected, scores = FIXTURE.cleanlab(), FIXTURE.cleanlab_active_lab()
    reply = run.get(f"/runs/{RUN}/consensus?sort=id").json()
    rows, quality = reply["rows"], expected["label_quality"]
    assert [row["id"] for row in rows] == IDS
    assert [row["consensus"] for row in rows] == quality["consensus_label"].tolist()
    # The run keeps logits in float32.
    np.testing.assert_allclose([row["quality"] for row in rows], quality["consensus_quality_score"], atol=1e-7)
    np.testing.assert_allclose([row["agreement"] for row in rows], quality["annotator_agreement"])
    np.testing.assert_allclose([row["active_lab"] for row in rows], scores, atol=1e-7)
    assert reply["model_weight"] == pytest.approx(expected["model_weight"])
    people = expected["annotator_stats"]
    assert [one["annotator"] for one in reply["annotators"]] == [ANNOTATORS[place] for place in people.index]
    np.testing.assert_allclose([one["quality"] for one in reply["annotators"]], people["annotator_quality"], atol=1e-7)
    totals = {name: reply[name] for name in reply if name.startswith("num_")}
    assert totals == {
        "num_examples": 8,
        "num_annotated": 8,
        "num_shared": 8,
        "num_annotations": 21,
        "num_unknown": 0,
        "num_differing": 1,
        "num_matching": 8,
    }


def test_pages_filters_and_orders(run: httpx.Client) -> None:
    run.put(PATH, json=[row for row in ROWS if row["id"] < "g"])

    def ids(query: str) -> list[str]:
        reply = run.get(f"/runs/{RUN}/consensus?{query}")
        assert reply.status_code == 200, reply.text
        return [row["id"] for row in reply.json()["rows"]]

    everything = ids("")
    assert sorted(everything) == IDS
    assert everything[-2:] == ["g", "h"], "examples without annotations come last"
    assert ids("limit=3&offset=2") == everything[2:5]
    assert ids("annotated=false") == ["g", "h"]
    assert ids("sort=-num_annotations,-id&annotated=true") == ["c", "b", "a", "f", "e", "d"]
    assert ids("differing=true") == []
    unlabelled = run.get(f"/runs/{RUN}/consensus?annotated=false").json()["rows"][0]
    assert (unlabelled["consensus"], unlabelled["quality"], unlabelled["agreement"]) == (None, None, None)


def test_reviewers_count_as_annotators_on_request(run: httpx.Client) -> None:
    run.put(PATH, json=ROWS)
    reviews = [
        {"id": "h", "verdict": "wrong", "label": "owl", "reviewer": "noa"},
        {"id": "h", "verdict": "ok", "reviewer": "kim"},
        {"id": "g", "verdict": "unsure", "reviewer": "noa"},
        {"id": "f", "verdict": "wrong", "reviewer": "noa"},
        {"id": "e", "verdict": "ok"},
    ]
    run.post(f"/runs/{RUN}/reviews", json=reviews).raise_for_status()
    without, with_them = (
        run.get(f"/runs/{RUN}/consensus?sort=id&reviewers={flag}").json() for flag in ("false", "true")
    )
    numbers = [row["num_annotations"] for row in with_them["rows"]]
    assert numbers == [3, 3, 3, 2, 3, 2, 3, 4]
    assert [row["num_annotations"] for row in without["rows"]] == [3, 3, 3, 2, 2, 2, 3, 3]
    people = {one["annotator"]: one["num_annotations"] for one in with_them["annotators"]}
    assert people == {"kim": 7, "lee": 7, "mia": 7, "noa": 1, None: 1}
    # kim's verdict on h, that its label 1 is right, replaces the annotation 0.
    assert with_them["rows"][-1]["agreement"] == 0.5


def test_deleted_annotations_are_gone(run: httpx.Client) -> None:
    run.put(PATH, json=ROWS)
    assert run.delete(PATH).status_code == 204
    reply = run.get(f"/runs/{RUN}/consensus").json()
    assert (reply["num_annotations"], reply["annotators"], reply["model_weight"]) == (0, [], None)
    assert run.put(PATH, json=ROWS[:2]).json() == effect(2, 0, 0, 2)


HEADER = "id,annotator,label\n"


@pytest.mark.parametrize(
    ("content", "status", "code", "detail"),
    [
        (HEADER + "a,kim,cat\nzz,kim,dog\n", 404, "unknown_example", f"row 1: run {RUN} has no example 'zz'"),
        (HEADER + "a,kim,cow\n", 422, "invalid_target", "row 0, column 'label': 'cow' is not the name of a class"),
        (HEADER + "a,kim,3\n", 422, "invalid_target", "row 0, column 'label': class 3 is outside [0, 3)"),
        (HEADER + "a,kim,\n", 422, "invalid_target", "row 0, column 'label': no value"),
        (HEADER + "a,kim,cat\na,kim,dog\n", 422, "invalid_target", "row 1, column 'label': annotator 'kim' gives"),
        (HEADER + "a,,cat\n", 422, "invalid_request", "row 0, column 'annotator': "),
        (
            HEADER + f"a,{'k' * 201},cat\n",
            422,
            "invalid_request",
            "row 0, column 'annotator': the name of an annotator",
        ),
        (HEADER + ",kim,cat\n", 404, "unknown_example", f"row 0: run {RUN} has no example ''"),
        (HEADER + "a,kim\n", 400, "malformed_body", "row 0: Expected 3 columns"),
        ("id,label\na,cat\n", 422, "invalid_request", "annotators missing: no column is named annotator"),
        ("id,annotator,annotator_id,label\na,k,k,0\n", 422, "invalid_request", "both 'annotator' and 'annotator_id'"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_stored(
    run: httpx.Client, content: str, status: int, code: str, detail: str
) -> None:
    reply = run.put(PATH, content=content, headers={"Content-Type": "text/csv"})
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert reply.json()["detail"].startswith(detail)
    assert run.get(f"/runs/{RUN}/consensus").json()["num_annotations"] == 0


@pytest.mark.parametrize(
    ("rows", "loc"),
    [
        ([ROWS[0], {"id": "a", "annotator": "kim"}], [1, "label"]),
        ([{"id": "a", "annotator": None, "label": 0}], [0, "annotator"]),
        ([{"id": "a", "annotator": "", "label": 0}], [0, "annotator"]),
        ([{"id": "a", "annotator": "kim", "label": -1}], [0, "label"]),
        ([{"id": "a", "annotator": "kim", "label": 7}], [0, "label"]),
        ([ROWS[0] | {"weight": 1}], [0, "weight"]),
    ],
)
def test_a_wrong_member_of_json_is_named(run: httpx.Client, rows: list[Any], loc: list[Any]) -> None:
    reply = run.put(PATH, json=rows)
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["loc"] == loc


def test_a_long_text_of_many_rows_is_refused(run: httpx.Client) -> None:
    codes = pa.DictionaryArray.from_arrays(np.zeros(1_000, np.int32), pa.array(["x" * 1_000_000]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": codes, "annotator": codes, "label": np.zeros(1_000, np.int8)}), sink)
    reply = run.put(PATH, content=sink.getvalue(), headers={"Content-Type": "application/vnd.apache.parquet"})
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large"), reply.text


def test_what_has_no_consensus_says_so(run: httpx.Client) -> None:
    run.put("/runs/of-tokens", json={"task": "tokens"})
    run.put("/runs/no-logits", json={"store_logits": False})
    batch = {"logits": [[1.0, 2.0]], "targets": [0], "ids": ["a"]}
    run.put("/runs/no-logits/epochs/0/batches/b", json=batch).raise_for_status()
    for method, path, words in (
        ("PUT", "/runs/of-tokens/annotations", "runs of the task classification"),
        ("GET", "/runs/of-tokens/consensus", "runs of the task classification"),
        ("GET", "/runs/no-logits/consensus", "the logits of this epoch are not stored"),
    ):
        reply = run.request(method, path, json=[] if method == "PUT" else None)
        assert (reply.status_code, words in reply.json()["detail"]) == (422, True), reply.text
    unknown = run.put(PATH, content=b"x", headers={"Content-Type": "application/x-safetensors"})
    assert (unknown.status_code, "application/json, text/csv" in unknown.json()["detail"]) == (415, True)


def test_queues_of_both_strategies(run: httpx.Client) -> None:
    queue = {"strategy": "consensus_quality", "budget": 3}
    refused = run.post(f"/runs/{RUN}/queues?preview=true", json=queue)
    assert (refused.status_code, "send annotations first" in refused.json()["detail"]) == (422, True)
    run.put(PATH, json=[row for row in ROWS if row["id"] != "d"])
    consensus = {row["id"]: row for row in run.get(f"/runs/{RUN}/consensus").json()["rows"]}
    for strategy, score, number in (("consensus_quality", "quality", 7), ("active_lab", "active_lab", 8)):
        request = {"strategy": strategy, "budget": 100}
        rows = run.post(f"/runs/{RUN}/queues?preview=true", json=request).json()["rows"]
        ordered = sorted((row for row in consensus.values() if row[score] is not None), key=lambda row: row[score])
        assert [row["id"] for row in rows] == [row["id"] for row in ordered]
        assert [row["score"] for row in rows] == [row[score] for row in ordered]
        assert len(rows) == number
    wrong = next(row for row in rows if row["id"] == "h")
    assert (wrong["suggested"], wrong["suggested_p"]) == (0, consensus["h"]["quality"])
    assert wrong["reason"].endswith("cat is likelier than dog, to which the model gives 5.0 %.")


def test_a_queue_of_rows_that_need_one_more_reviewer(run: httpx.Client) -> None:
    reviews = [
        *({"id": name, "verdict": "ok", "reviewer": "kim"} for name in IDS),
        *({"id": name, "verdict": "ok", "reviewer": "lee"} for name in "abcd"),
        {"id": "b", "verdict": "wrong", "label": "owl", "reviewer": "mia"},
    ]
    run.post(f"/runs/{RUN}/reviews", json=reviews).raise_for_status()
    request = {"strategy": "consensus_quality", "reviewers": True}
    rows = run.post(f"/runs/{RUN}/queues?preview=true", json=request).json()["rows"]
    consensus = run.get(f"/runs/{RUN}/consensus?reviewers=true").json()["rows"]
    assert [(row["id"], row["score"]) for row in rows] == [(row["id"], row["quality"]) for row in consensus]
    for wrong in ({"strategy": "top_loss"}, {"blind": True}):
        refused = run.post(f"/runs/{RUN}/queues?preview=true", json=request | wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_the_consensus_has_no_hidden_verdicts(client_with: ClientWith) -> None:
    secrets = {name: f"{name}-0123456789abcdef01234567" for name in ("k-owner", "k-kim", "k-lee")}
    roles = {"k-owner": "ann:owner", "k-kim": "kim:reviewer", "k-lee": "lee:reviewer"}
    client = client_with(api_keys=",".join(f"{roles[name]}:{secret}" for name, secret in secrets.items()))

    def send(key: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {secrets[key]}"}
        reply = client.request(method, f"/runs/blind{path}", json=body, headers=headers)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else {}

    send("k-owner", "PUT", "", {"class_names": NAMES})
    batch = {"logits": np.log(FIXTURE.p).tolist(), "targets": [0] * 8, "ids": IDS}
    send("k-owner", "PUT", "/epochs/0/batches/b", batch)
    queue = {"strategy": "top_loss", "budget": 8, "name": "q", "overlap": 2, "blind": True}
    send("k-owner", "POST", "/queues", queue)
    send("k-kim", "POST", "/reviews", [{"id": "a", "verdict": "wrong", "label": "owl", "queue": "q"}])
    seen = {
        key: [one["annotator"] for one in send(key, "GET", "/consensus?reviewers=true")["annotators"]]
        for key in ("k-owner", "k-lee", "k-kim")
    }
    assert seen == {"k-owner": ["kim"], "k-lee": [], "k-kim": ["kim"]}
    send("k-lee", "POST", "/reviews", [{"id": "a", "verdict": "ok", "queue": "q"}])
    both = send("k-lee", "GET", "/consensus?reviewers=true")["annotators"]
    assert {one["annotator"] for one in both} == {"kim", "lee"}
    refused = client.post(
        "/runs/blind/queues?preview=true",
        json={"strategy": "active_lab", "reviewers": True},
        headers={"Authorization": f"Bearer {secrets['k-lee']}"},
    )
    assert refused.status_code == 403
    send("k-owner", "DELETE", "")
