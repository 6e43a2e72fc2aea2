"""A warning where probabilities are sent as logits: in replies of every format, in streams and in the diagnostics."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest

from service.formats.safetensors import read_safetensors, write_safetensors
from service.schema.replies.service import LossReply
from tests.replies import assert_is

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
TARGETS = [0, 1, 2, 3, 0, 1]


def body(*logits: np.ndarray) -> dict[str, Any]:
    return {"batches": [{"logits": part.tolist(), "targets": TARGETS} for part in logits]}


@pytest.mark.parametrize(
    ("parts", "first"), [((P,), 0), ((LOGITS, P, P), 1), ((LOGITS,), None), ((np.log(P),), None), ((P[:1],), None)]
)
def test_a_reply_in_json(client: httpx.Client, parts: tuple[np.ndarray, ...], first: int | None) -> None:
    value = body(*parts)
    for batch in value["batches"]:
        batch["targets"] = batch["targets"][: len(batch["logits"])]
    reply = client.post("/loss", json=value).json()
    assert_is(LossReply, reply)
    assert [(item["batch"], item["code"]) for item in reply.get("warnings", [])] == (
        [] if first is None else [(first, "probabilities_as_logits")]
    )
    assert ("warnings" in reply) == (first is not None)


OF_LABELS = 1 / (1 + np.exp(-np.random.default_rng(1).normal(size=200) * 3))


@pytest.mark.parametrize(
    ("logits", "code"),
    [
        (OF_LABELS[:20], None),
        (np.log(OF_LABELS / (1 - OF_LABELS)), None),
        (OF_LABELS, "probabilities_as_logits"),
        (np.log(OF_LABELS), "log_probabilities_as_logits"),
    ],
)
def test_labels(client: httpx.Client, logits: np.ndarray, code: str | None) -> None:
    value = {"logits": logits.tolist(), "targets": [0, 1] * (len(logits) // 2), "config": {"mode": "sigmoid"}}
    assert [item["code"] for item in client.post("/loss", json=value).json().get("warnings", [])] == (
        [code] if code else []
    )
    # From the log-odds the service knows the logits.
    z = np.where(np.arange(len(logits)) % 2, logits, -logits).tolist()
    reduced = {"targets": value["targets"], "config": value["config"], "log_odds": z, "outputs": ["loss"]}
    assert [item["code"] for item in client.post("/loss", json=reduced).json().get("warnings", [])] == (
        [code] if code else []
    )


def test_a_reply_in_safetensors(client: httpx.Client) -> None:
    for logits in (P, LOGITS):
        content = write_safetensors({"logits": logits, "targets": np.array(TARGETS)}, {})
        reply = client.post("/loss", content=content, headers={"Content-Type": "application/x-safetensors"})
        _, metadata = read_safetensors(reply.content)
        codes = [item["code"] for item in orjson.loads(metadata.get("warnings", "[]"))]
        assert codes == (["probabilities_as_logits"] if logits is P else [])


def test_a_stream(client: httpx.Client) -> None:
    sink = io.BytesIO()
    schema = pa.schema({"logits": pa.list_(pa.float32()), "targets": pa.int64()})
    with pa.ipc.new_stream(sink, schema) as writer:
        for logits in (LOGITS, P):
            writer.write_batch(pa.record_batch([logits.tolist(), TARGETS], schema=schema))
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    reply = client.post("/loss", content=sink.getvalue(), headers=headers)
    reader = pa.ipc.open_stream(reply.content)
    metadata = [item.custom_metadata for item in reader.iter_batches_with_custom_metadata()]
    (warning,) = orjson.loads(metadata[-1][b"warnings"])
    assert (warning["batch"], warning["code"]) == (1, "probabilities_as_logits")


def test_the_diagnostics_of_a_run(client: httpx.Client) -> None:
    client.put("/runs/probabilities", json={})

    def send(batch: str, logits: np.ndarray, **query: str) -> httpx.Response:
        ids = [f"{batch}{row}" for row in range(len(logits))]
        value = {"logits": logits.tolist(), "targets": TARGETS, "ids": ids}
        return client.put(f"/runs/probabilities/epochs/0/batches/{batch}", json=value, params=query)

    def message(code: str = "probabilities_as_logits") -> str | None:
        reply = client.get("/runs/probabilities/diagnostics").json()
        return next((item["message"] for item in reply["warnings"] if item["code"] == code), None)

    assert "warnings" not in send("a", LOGITS).json()
    assert message() is None
    assert send("b", P).json()["warnings"][0]["code"] == "probabilities_as_logits"
    assert "The logits of 1 batches look like probabilities" in (message() or "")
    send("b", LOGITS, replace="true")
    assert message() is None
    assert send("b", -np.log(P), replace="true").json()["warnings"][0]["code"] == "log_probabilities_as_logits"
    assert "The logits of 1 batches look like negative log-probabilities" in (
        message("log_probabilities_as_logits") or ""
    )
