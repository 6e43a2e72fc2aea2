"""Parquet, Arrow and CSV files as requests, and the formats of the replies."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load

from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_stream, body_of, parquet_file
from tests.services import SMALL_LIMITS, ClientWith

READERS = pytest.mark.parametrize("reader", [ARROW, PARQUET, CSV], ids=lambda reader: reader.media_type)
LOGITS = [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9], [0.0, 3.0, 1.0]]
TABLE = pa.table({"id": ["a", "b", "c"], "logits": LOGITS, "label": [0, 1, 1], "text": ["one", "two\nlines", "three"]})


def post(client: httpx.Client, media_type: str, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/loss{query}", content=body, headers={"Content-Type": media_type, **headers})


def problem(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return str(reply.json()["detail"])


@READERS
def test_a_file_is_answered_as_json_says_it(client: httpx.Client, reader: Any) -> None:
    query = "?outputs=loss,p_t,prediction&top_k=1"
    fields = {"logits": LOGITS, "targets": [0, 1, 1], "ids": ["a", "b", "c"]}
    expected = client.post(f"/loss{query}", json=fields).json()
    reply = post(client, reader.media_type, body_of(reader, TABLE), query)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == expected
    coded = post(
        client, reader.media_type, gzip.compress(body_of(reader, TABLE)), query, **{"Content-Encoding": "gzip"}
    )
    assert coded.json() == expected


@READERS
def test_accept_chooses_among_the_formats_of_replies(client: httpx.Client, reader: Any) -> None:
    body = body_of(reader, TABLE)
    reply = post(client, reader.media_type, body, Accept="application/x-safetensors")
    assert load(reply.content)["per_example.loss"].shape == (3,)
    reply = post(client, reader.media_type, body, Accept="application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(reply.content).read_all()["id"].to_pylist() == ["a", "b", "c"]
    problem(post(client, reader.media_type, body, Accept=reader.media_type), 406, "not_acceptable")


@READERS
def test_the_other_columns_are_attributes_of_a_run(client: httpx.Client, reader: Any) -> None:
    client.put("/runs/from-a-file", json={"class_names": ["cat", "dog", "bird"]}).raise_for_status()
    headers = {"Content-Type": reader.media_type}
    try:
        where, body = "/runs/from-a-file/epochs/0/batches/all", body_of(reader, TABLE)
        assert client.put(where, content=body, headers=headers).status_code == 201
        assert client.put(where, content=body, headers=headers).status_code == 200
        rows = client.get("/runs/from-a-file/examples?sort=row").json()["rows"]
        assert [row["attributes"] for row in rows] == [{"text": text} for text in TABLE["text"].to_pylist()]
        assert [(row["id"], row["target"]) for row in rows] == [("a", 0), ("b", 1), ("c", 1)]
        nameless = body_of(reader, TABLE.drop_columns("id"))
        answer = client.put("/runs/from-a-file/epochs/1/batches/all", content=nameless, headers=headers)
        assert "ids missing" in problem(answer, 422, "invalid_ids")
    finally:
        client.delete("/runs/from-a-file")


def test_a_file_without_rows_has_no_loss(client: httpx.Client) -> None:
    for media_type, body in (
        (CSV.media_type, b"logit_0,logit_1,label\n"),
        (PARQUET.media_type, parquet_file(TABLE[:0])),
    ):
        reply = post(client, media_type, body).json()
        assert (reply["loss"], reply["num_examples"]) == (None, 0)


def test_what_is_wrong_with_a_file_is_said(client: httpx.Client) -> None:
    def detail(reader: Any, table: pa.Table, status: int, code: str) -> str:
        return problem(post(client, reader.media_type, body_of(reader, table)), status, code)

    for reader in (ARROW, PARQUET, CSV):
        said = detail(reader, TABLE.rename_columns(["id", "logits", "class", "text"]), 422, "invalid_request")
        assert "targets, target, labels, label, y" in said
        assert "'class', 'text'" in said
        said = detail(reader, TABLE.set_column(2, "label", [["cat", "dog", "dog"]]), 422, "invalid_target")
        assert "row 0: 'cat' is not a number" in said
        assert "counted from 0" in said
        assert "row 2: target 7" in detail(reader, TABLE.set_column(2, "label", [[0, 1, 7]]), 422, "invalid_target")
        assert "'a' is already" in detail(reader, TABLE.set_column(0, "id", [["a", "b", "a"]]), 422, "invalid_ids")
    problem(post(client, PARQUET.media_type, b"PAR1 nothing PAR1"), 400, "malformed_body")
    problem(post(client, ARROW.media_type, b"ARROW1 nothing ARROW1"), 400, "malformed_body")
    problem(post(client, CSV.media_type, "logit_0,logit_1,ä\n".encode("latin-1")), 400, "malformed_body")
    assert "text/csv" in problem(post(client, "text/semicolon-separated", b""), 415, "unsupported_media_type")


def test_limits_hold_for_what_a_file_packs(client_with: ClientWith) -> None:
    small = client_with(**SMALL_LIMITS)

    def packed(rows: int) -> pa.Table:
        return pa.table({"logit_0": np.zeros(rows), "logit_1": np.zeros(rows), "label": np.zeros(rows, np.int64)})

    for write, media_type in ((parquet_file, PARQUET.media_type), (arrow_stream, ARROW.media_type)):
        options = {"compression": "zstd"}
        body = write(packed(1000), **options)
        assert post(small, media_type, body).status_code == 200
        problem(post(small, media_type, write(packed(1001), **options)), 413, "too_many_examples")
        bomb = write(packed(1_000_000), **options)
        assert len(bomb) < 2**20
        assert "the limit is 1048576 (max_body_bytes)" in problem(post(small, media_type, bomb), 413, "body_too_large")
