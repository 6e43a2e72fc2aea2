"""`/runs/{run}/corrected`: the data set with the labels that its reviews settle, in every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.contract.run_batches import batch_of

RUN, PATH = "corrected", "/runs/corrected/corrected"
CLASSES = ["cat", "dog", "bird"]


@pytest.fixture
def run(client: httpx.Client) -> Iterator[str]:
    client.put(f"/runs/{RUN}", json={"class_names": CLASSES}).raise_for_status()
    client.put(f"/runs/{RUN}/epochs/0/batches/b", json=batch_of(30)).raise_for_status()
    reviews = [
        {"id": "0-3", "verdict": "wrong", "label": "bird", "reviewer": "ada", "comment": "wings"},
        {"id": "0-4", "verdict": "ok", "reviewer": "ada"},
        {"id": "0-4", "verdict": "wrong", "reviewer": "bob"},
        {"id": "0-5", "verdict": "exclude"},
    ]
    client.post(f"/runs/{RUN}/reviews", json=reviews).raise_for_status()
    yield RUN
    client.delete(f"/runs/{RUN}")


def rows_of(name: str, content: bytes) -> list[dict[str, Any]]:
    """The rows of a file, with numbers and lists as JSON has them."""
    match name:
        case "csv":
            rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
            numbers = ("group", "label_index", "given_label_index")
            return [
                {key: None if value == "" else int(value) if key in numbers else value for key, value in row.items()}
                | {"reviewers": row["reviewers"].split(", ") if row["reviewers"] else []}
                for row in rows
            ]
        case "jsonl":
            return [json.loads(line) for line in content.splitlines()]
        case "parquet":
            return list(pq.read_table(io.BytesIO(content)).to_pylist())
        case "arrow":
            return list(pa.ipc.open_file(content).read_all().to_pylist())
    rows = []
    for task in json.loads(content):
        label = task["annotations"][0]["result"][0]["value"]["choices"][0] if task["annotations"] else None
        rows.append({**task["data"], "id": task["data"]["external_id"], "label": label})
    return rows


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "arrow", "label-studio"])
def test_every_format_has_the_data_set_with_the_labels_to_use(client: httpx.Client, run: str, name: str) -> None:
    reply = client.get(PATH, params={"format": name}).raise_for_status()
    sent = batch_of(30)
    rows = rows_of(name, reply.content)
    assert [row["id"] for row in rows] == sorted(sent["ids"])
    by_id = {row["id"]: row for row in rows}
    settled = {"0-3": ("bird", "corrected", ["ada"]), "0-4": (None, "conflict", ["ada", "bob"])}
    settled["0-5"] = (None, "excluded", [])
    for number, identity in enumerate(sent["ids"]):
        given, row = CLASSES[sent["targets"][number]], by_id[identity]
        assert (row["text"], row["group"], row["given_label"]) == (f"text {number}", number % 3, given)
        label, status, reviewers = settled.get(identity, (given, "unreviewed", []))
        status = "kept" if status == "corrected" and label == given else status
        assert (row["label"], row["status"], row["reviewers"]) == (label, status, reviewers)
        assert row["label_index"] == (None if label is None else CLASSES.index(label))
    assert by_id["0-3"]["comment"] == "wings"


def test_the_digest_changes_with_the_reviews_only(client: httpx.Client, run: str) -> None:
    first, again = client.get(PATH), client.get(PATH)
    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    other = client.get(PATH, params={"format": "csv"})
    assert other.headers["focal-loss-digest"] == first.headers["focal-loss-digest"]
    assert other.headers["etag"] != first.headers["etag"]
    assert client.get(PATH, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'}).status_code == 304
    client.post(f"/runs/{run}/reviews", json=[{"id": "0-6", "verdict": "ok"}]).raise_for_status()
    changed = client.get(PATH, headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.content == first.content) == (200, False)
    assert changed.headers["focal-loss-digest"] != first.headers["focal-loss-digest"]


def test_it_needs_a_run_and_a_known_format(client: httpx.Client, run: str) -> None:
    assert client.get("/runs/unknown/corrected").json()["code"] == "unknown_run"
    assert client.get(PATH, params={"format": "fiftyone"}).json()["code"] == "invalid_request"
    named = client.get(PATH, params={"format": "parquet"}).headers["content-disposition"]
    assert named == f'attachment; filename="{run}-corrected.parquet"'


def test_the_consensus_of_annotators_settles_what_no_review_does(client: httpx.Client) -> None:
    run = "consensus"
    client.put(f"/runs/{run}", json={"class_names": CLASSES}).raise_for_status()
    batch = {"logits": [[0, 2, 0]] * 9, "targets": [0] * 9, "ids": [*range(9)]}
    client.put(f"/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()

    def annotate(identity: int, *labels: str) -> list[dict[str, Any]]:
        return [{"id": identity, "annotator": f"a{number}", "label": label} for number, label in enumerate(labels)]

    def rows() -> dict[str, dict[str, Any]]:
        content = client.get(f"/runs/{run}/corrected", params={"policy": "consensus"}).content
        return {row["id"]: row for row in rows_of("jsonl", content)}

    def digests() -> list[str]:
        policies = ("consensus", "reviewed")
        found = [client.get(f"/runs/{run}/corrected", params={"policy": policy}) for policy in policies]
        return [reply.headers["focal-loss-digest"] for reply in found]

    given = [*annotate(1, "dog", "dog", "dog"), *annotate(2, "dog", "dog"), *annotate(3, "cat", "cat", "cat")]
    given += [*annotate(4, "bird", "bird", "bird"), *annotate(5, "dog", "dog")]
    client.put(f"/runs/{run}/annotations", json=given).raise_for_status()
    reviews = [
        {"id": "2", "verdict": "ok", "reviewer": "ada", "comment": "a cat"},
        {"id": "4", "verdict": "unsure", "reviewer": "ada"},
        {"id": "5", "verdict": "exclude"},
        {"id": "6", "verdict": "ok", "reviewer": "ada"},
        {"id": "6", "verdict": "wrong", "label": "dog", "reviewer": "bob"},
        {"id": "7", "verdict": "unsure"},
    ]
    client.post(f"/runs/{run}/reviews", json=reviews).raise_for_status()
    found = rows()
    assert {identity: (row["label"], row["status"]) for identity, row in found.items()} == {
        "0": ("cat", "unreviewed"),
        "1": ("dog", "corrected"),
        "2": ("cat", "kept"),
        "3": ("cat", "kept"),
        "4": ("bird", "corrected"),
        "5": (None, "excluded"),
        # Reviewers who disagree count as annotators, and the model decides between them.
        "6": ("dog", "corrected"),
        "7": (None, "unsure"),
        "8": ("cat", "unreviewed"),
    }
    assert (found["6"]["reviewers"], found["1"]["reviewers"], found["2"]["comment"]) == (["ada", "bob"], [], "a cat")
    before = digests()
    client.put(f"/runs/{run}/annotations", json=annotate(8, "bird")).raise_for_status()
    assert [new == old for new, old in zip(digests(), before, strict=True)] == [False, True]
    assert (rows()["8"]["label"], rows()["8"]["status"]) == ("bird", "corrected")
