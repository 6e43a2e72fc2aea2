"""Batches of a run in every format: class names are labels, and the same rows are one content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest
from safetensors.numpy import save

from service.codecs.open_inference import decode_request
from tests.codecs.file_bodies import arrow_file, arrow_stream, csv_file, parquet_file
from tests.contract.run_batches import ARROW, ARROW_FILE, JSON, PARQUET, SAFETENSORS

RUN = "/runs/formats-agree"
LOGITS, IDS = [[2.5, 0.125, 0.0], [0.25, -2.0, 1.0]], ["007", "18446744073709551615"]


@pytest.fixture
def run(client: httpx.Client) -> Iterator[str]:
    client.delete(RUN)
    client.put(RUN, json={"class_names": ["cat", "2", "a, b"]}).raise_for_status()
    yield RUN
    client.delete(RUN)


def bodies(labels: list[Any]) -> dict[str, bytes]:
    """The rows in every format that takes batches of runs."""
    rows = {"logits": LOGITS, "label": labels, "ids": IDS}
    table = pa.table(rows)
    views = table.set_column(2, "ids", table["ids"].cast(pa.string_view()))
    encoded = views.set_column(1, "label", table["label"].combine_chunks().dictionary_encode())
    in_json = json.dumps({"labels": labels, "id": IDS})
    return {
        JSON: json.dumps(rows).encode(),
        SAFETENSORS: save({"logits": pa.array(LOGITS).flatten().to_numpy().reshape(2, 3)}, {"request": in_json}),
        ARROW: arrow_stream(encoded),
        ARROW_FILE: arrow_file(encoded),
        PARQUET: parquet_file(table),
        "text/csv": csv_file(table),
        "text/tab-separated-values; charset=utf-16": csv_file(table).decode().replace(",", "\t").encode("utf-16")
        if not any("," in str(label) for label in labels)
        else csv_file(table).decode().encode("utf-16"),
    }


@pytest.mark.parametrize(
    ("labels", "targets"), [(["cat", "2"], [0, 1]), (["2", "0"], [1, 0]), ([2, 1], [2, 1]), ([2.0, 0.0], [2, 0])]
)
def test_same_rows_in_every_format_are_one_content(
    client: httpx.Client, run: str, labels: list[Any], targets: list[int]
) -> None:
    texts = [isinstance(label, str) for label in labels]
    for number, (media_type, body) in enumerate(bodies(labels).items()):
        # A number in text is the name of a class first, so CSV with these labels has other rows.
        if media_type.startswith("text/") and not all(texts):
            continue
        path = f"{run}/epochs/0/batches/one"
        reply = client.put(path, content=body, headers={"Content-Type": media_type, "Accept": "application/json"})
        assert reply.status_code == (201 if number == 0 else 200), (media_type, reply.text)
    rows = client.get(f"{run}/examples?sort=id").json()["rows"]
    assert [(row["id"], row["target"]) for row in rows] == list(zip(IDS, targets, strict=True))


def test_unknown_class_name_is_named_in_every_format(client: httpx.Client, run: str) -> None:
    problems = set()
    for media_type, body in bodies(["cat", "cta"]).items():
        headers = {"Content-Type": media_type, "Accept": "application/json"}
        reply = client.put(f"{run}/epochs/0/batches/one", content=body, headers=headers)
        problems.add((reply.status_code, reply.json()["code"], reply.json()["detail"]))
    assert problems == {(422, "invalid_target", "batch 0, row 1: 'cta' is not the name of a class; similar are 'cat'")}


def test_ids_of_the_inference_protocol(client: httpx.Client) -> None:
    inputs = [
        {"name": "logits", "shape": [2, 3], "datatype": "FP64", "data": LOGITS},
        {"name": "labels", "shape": [2], "datatype": "UINT64", "data": [0, 1]},
        {"name": "id", "shape": [2], "datatype": "BYTES", "data": IDS},
    ]
    body = {"inputs": inputs, "parameters": {"top_k": 1}}
    reply = client.post("/v2/models/focal_loss/infer", json=body).json()
    (hardest,) = json.loads(reply["parameters"]["hardest"])
    assert hardest["id"] == IDS[1]
    assert decode_request(bytearray(json.dumps(body).encode()), None).loss_request.batches[0].ids == IDS
