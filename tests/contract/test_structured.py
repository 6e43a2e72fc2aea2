"""Contract section 7 over HTTP: structured batches in every format of requests and of replies."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from tests.codecs.structured_forms import (
    ARROW,
    ARROW_FILE,
    JSON,
    PARQUET,
    SAFETENSORS,
    Array,
    Examples,
    Structured,
    bodies,
)
from tests.codecs.test_safetensors_replies import read_by_the_library
from tests.lanes import mostly_slow

RNG = np.random.default_rng(1)
OUTPUTS = ["loss", "contribution", "p_t", "num_valid", "label_quality", "max_loss"]
OPTIONS = {"outputs": OUTPUTS, "elements": ["loss", "prediction"], "top_regions": 3, "top_k": 2}


def batch(logits: tuple[int, ...], targets: Array, offsets: list[int] | None = None) -> Examples:
    """Examples with an element that is ignored."""
    targets = targets.copy()
    targets.flat[0] = -100
    return soft(logits, targets, offsets)


def soft(logits: tuple[int, ...], targets: Array, offsets: list[int] | None = None) -> Examples:
    """Examples with an id each."""
    examples = logits[0] if offsets is None else len(offsets) - 1
    return Examples(
        {"logits": RNG.normal(size=logits), "targets": targets},
        None if offsets is None else np.array(offsets),
        [f"{RNG.integers(2**60)}" for _ in range(examples)],
    )


def classes(*shape: int) -> Array:
    return RNG.integers(0, 3, shape)


def binary(*shape: int) -> Array:
    return RNG.integers(0, 2, shape)


def shares(*shape: int) -> Array:
    """Soft labels."""
    numbers = RNG.random(shape)
    return numbers / numbers.sum(axis=1, keepdims=True)


SIGMOID = {"config": {"mode": "sigmoid", "alpha": 0.25, "gamma_negative": 1, "clip": 0.05}}
CASES = {
    "masks": Structured("dense", [batch((2, 3, 4, 5), classes(2, 4, 5))]),
    "masks of two sizes": Structured(
        "dense", [batch((2, 3, 4, 5), classes(2, 4, 5)), batch((1, 3, 2, 2), classes(1, 2, 2))]
    ),
    "tokens": Structured("ragged", [batch((5, 3), classes(5), [0, 0, 4, 5])]),
    "tokens of two batches": Structured(
        "ragged", [batch((3, 3), classes(3), [0, 3]), batch((2, 3), classes(2), [0, 1, 1, 2])]
    ),
    "labels of masks": Structured("dense", [batch((2, 2, 3), binary(2, 2, 3))], SIGMOID),
    "labels of tokens": Structured("ragged", [batch((3, 2), binary(3, 2), [0, 2, 3])], SIGMOID),
    "labels": Structured("rows", [batch((4, 3), binary(4, 3))], SIGMOID),
    "soft labels": Structured("rows", [soft((3, 4), shares(3, 4))]),
    "soft labels of masks": Structured("dense", [soft((2, 3, 4), shares(2, 3, 4))]),
    "soft labels of tokens": Structured("ragged", [soft((3, 4), shares(3, 4), [0, 1, 3])]),
}


def plain(values: Array) -> Any:
    """Nested lists, with None for NaN and for negative integers."""
    if np.ndim(values):
        return [*map(plain, values)]
    missing = np.isnan(values) or (np.asarray(values).dtype.kind == "i" and values < 0)
    return None if missing else values.item()


def read_json(content: bytes, _: Structured) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(content)
    of_batches = ("loss", "num_examples", "num_ignored", "num_excluded", "num_elements", "per_example", "per_element")
    return {
        "loss": reply["loss"],
        "hardest": reply["hardest"],
        "batches": [{name: batch[name] for name in of_batches} for batch in reply["batches"]],
    }


def read_safetensors(content: bytes, sent: Structured) -> dict[str, Any]:
    tensors, metadata = read_by_the_library(content)
    regions = json.loads(metadata["regions"])
    batches = []
    first_example = first_element = 0
    for number, examples in enumerate(sent.batches):
        logits, targets = (examples.parts[part].shape for part in ("logits", "targets"))
        # Outputs have no axis for the classes of soft labels.
        is_soft = logits == targets and "config" not in sent.options
        shape = (targets[0], *targets[2:]) if is_soft else targets
        count = int(tensors["batch_num_examples"][number])
        rows = slice(first_example, first_example + count)
        per_element = {}
        for name in OPTIONS["elements"]:
            flat = tensors[f"per_element.{name}"].ravel()[first_element : first_element + int(np.prod(shape))]
            values = plain(flat.reshape(shape))
            if examples.offsets is not None:
                values = [values[start:stop] for start, stop in pairwise(examples.offsets)]
            per_element[name] = values
        batches.append(
            {
                **{
                    name: plain(tensors[f"batch_{name}"][number])
                    for name in ("loss", "num_examples", "num_ignored", "num_excluded", "num_elements")
                },
                "per_example": {name: plain(tensors[f"per_example.{name}"][rows]) for name in OUTPUTS}
                | {"regions": regions[rows]},
                "per_element": per_element,
            }
        )
        first_example, first_element = first_example + count, first_element + int(np.prod(shape))
    return {"loss": plain(tensors["loss"]), "hardest": json.loads(metadata["hardest"]), "batches": batches}


def read_arrow(content: bytes, sent: Structured) -> dict[str, Any]:
    with pa.ipc.open_stream(io.BytesIO(content)) as stream:
        *batches, (_, total) = [
            (record_batch, {name.decode(): value.decode() for name, value in metadata.items()})
            for record_batch, metadata in stream.iter_batches_with_custom_metadata()
        ]
    counts = ("loss", "num_examples", "num_ignored", "num_excluded", "num_elements")
    for (record_batch, _), examples in zip(batches, sent.batches, strict=True):
        assert record_batch.column(0).to_pylist() == examples.ids
    return {
        "loss": json.loads(total["loss"]),
        "hardest": json.loads(total["hardest"]),
        "batches": [
            {
                **{name: json.loads(metadata[name]) for name in counts},
                "per_example": {name: record_batch.column(name).to_pylist() for name in (*OUTPUTS, "regions")},
                "per_element": {
                    name: record_batch.column(f"per_element.{name}").to_pylist() for name in OPTIONS["elements"]
                },
            }
            for record_batch, metadata in batches
        ],
    }


READERS = {JSON: read_json, SAFETENSORS: read_safetensors, ARROW: read_arrow}


def assert_close(got: Any, expected: Any, place: str = "reply") -> None:
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), place
        for name, value in expected.items():
            assert_close(got[name], value, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), place
        for number, value in enumerate(expected):
            assert_close(got[number], value, f"{place}[{number}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-12), place
    else:
        assert got == expected, place


@pytest.mark.parametrize("name", mostly_slow(CASES, quick=4))
def test_same_reply_in_every_format(client: httpx.Client, name: str) -> None:
    sent = Structured(CASES[name].layout, CASES[name].batches, {**CASES[name].options, **OPTIONS})
    requests = dict(bodies(sent))
    assert requests.keys() >= {JSON, SAFETENSORS, ARROW}
    replies = {}
    for media_type, body in requests.items():
        for accept, read in READERS.items():
            reply = client.post("/loss", content=body, headers={"Content-Type": media_type, "Accept": accept})
            assert reply.status_code == 200, (media_type, accept, reply.text)
            assert reply.headers["content-type"] == accept
            replies[media_type, accept] = read(reply.content, sent)
    expected = replies[JSON, JSON]
    assert sum(batch["num_elements"] for batch in expected["batches"]) > 0
    for got in replies.values():
        assert_close(got, expected)


@pytest.mark.parametrize("media_type", [JSON, SAFETENSORS, ARROW, ARROW_FILE, PARQUET])
def test_errors_name_the_element(client: httpx.Client, media_type: str) -> None:
    masks = CASES["masks"].batches[0]
    masks = masks._replace(parts={**masks.parts, "targets": masks.parts["targets"].copy()})
    masks.parts["targets"][1, 3, 4] = 7
    body = dict(bodies(Structured("dense", [masks])))[media_type]
    reply = client.post("/loss", content=body, headers={"Content-Type": media_type})
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (422, "invalid_target")
    assert problem["detail"].startswith("batch 0, row 1, element [3, 4]: target 7 is outside [0, 3)")
    assert problem["errors"][0]["loc"] == ["batches", 0, "targets", 1, 3, 4]


def test_a_stream_of_masks_is_answered_with_their_lists(client: httpx.Client) -> None:
    masks = CASES["masks of two sizes"]
    (_, body) = next(pair for pair in bodies(masks) if pair[0] == ARROW)
    query = {"outputs": "loss,num_valid,regions"}
    reply = client.post("/loss", params=query, content=body, headers={"Content-Type": ARROW})
    with pa.ipc.open_stream(io.BytesIO(reply.content)) as stream:
        assert stream.schema.names == ["id", "loss", "num_valid", "regions"]
        assert [len(record_batch) for record_batch in stream] == [2, 1, 0]


@pytest.mark.parametrize("media_type", [JSON, SAFETENSORS, ARROW, ARROW_FILE, PARQUET])
def test_examples_without_elements_and_regions(client: httpx.Client, media_type: str) -> None:
    empty = Examples({"logits": np.empty((0, 3)), "targets": np.empty(0, np.int64)}, np.array([0, 0, 0]))
    body = dict(bodies(Structured("ragged", [empty], OPTIONS)))[media_type]
    for accept, read in READERS.items():
        reply = client.post("/loss", content=body, headers={"Content-Type": media_type, "Accept": accept})
        assert reply.status_code == 200, reply.text
        (result,) = read(reply.content, Structured("ragged", [empty._replace(ids=[0, 1])]))["batches"]
        assert (result["num_examples"], result["num_ignored"], result["loss"]) == (2, 2, None)
        assert result["per_example"]["regions"] == [[], []]
        assert result["per_element"] == {"loss": [[], []], "prediction": [[], []]}
