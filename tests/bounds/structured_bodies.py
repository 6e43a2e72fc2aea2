"""Worst bodies of structured batches: many tiny examples, one large one, deep lists, many regions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.api.http.tensor_docs import ARROW, ARROW_FILE, PARQUET, SAFETENSORS
from service.formats.safetensors import write_safetensors
from service.schema.request import ELEMENT_OUTPUTS, OUTPUTS, REGIONS
from service.schema.structure import MAX_REGIONS
from tests.bounds.worst_request import WorstRequest, json_request

EVERYTHING = {
    # A structured example has no prediction.
    "outputs": [name for name in (*OUTPUTS, REGIONS) if name != "prediction"],
    "elements": list(ELEMENT_OUTPUTS),
    "top_k": 1_000_000,
    "top_regions": MAX_REGIONS,
}
DENSE, RAGGED = {"layout": "dense"}, {"layout": "ragged"}
SIGMOID = {"config": {"mode": "sigmoid"}}


def structured_bodies(path: str, size: int) -> Iterator[WorstRequest]:
    """Worst bodies of `POST /loss` with a layout."""
    for name, value in _json_values(size):
        yield json_request("POST", f"JSON {name}", path, value)
        if isinstance(value, dict):
            yield json_request("POST", f"JSON {name}, everything", path, value | EVERYTHING)
    for name, kind, body in _binary_bodies(size):
        yield WorstRequest("POST", name, path, body, {"Content-Type": kind})


def structured_infer_bodies(path: str, size: int) -> Iterator[WorstRequest]:
    """Worst bodies of an inference with a layout."""
    pixels = size // 5
    outputs = [{"name": f"per_element.{name}"} for name in ELEMENT_OUTPUTS]
    for binary in (False, True):
        inputs = [_input("logits", "FP16", [1, 2, pixels], 4 * pixels), _input("targets", "UINT8", [1, pixels], pixels)]
        named = [output | {"parameters": {"binary_data": binary}} for output in outputs]
        parameters = DENSE | {"top_regions": MAX_REGIONS}
        header = orjson.dumps({"inputs": inputs, "outputs": named, "parameters": parameters})
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
        yield WorstRequest("POST", f"one mask, binary {binary}", path, header + bytes(5 * pixels), headers)


def _input(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def _json_values(size: int) -> Iterator[tuple[str, Any]]:
    tokens, pixels = size // 14, size // 12 * 2
    # Every second prediction is wrong.
    labels = [0, 1] * (pixels // 2)
    yield "tokens", RAGGED | {"logits": [[[0, 1]]] * tokens, "targets": [[0]] * tokens}
    yield "empty examples", RAGGED | {"logits": [[]] * (size // 6), "targets": [[]] * (size // 6)}
    yield "one sentence", RAGGED | {"logits": [[[0, 1]] * (size // 8)], "targets": [[0, 1] * (size // 16)]}
    yield "labels of tokens", RAGGED | SIGMOID | {"logits": [[[1]]] * (size // 10), "targets": [[[0]]] * (size // 10)}
    yield "one mask", DENSE | {"logits": [[[0] * pixels, [1] * pixels]], "targets": [labels]}
    yield "masks of a pixel", DENSE | {"logits": [[[0], [1]]] * (size // 16), "targets": [[0]] * (size // 16)}
    one: Any = 0
    for _ in range(6):
        one = [one]
    yield "axes of length 1", DENSE | SIGMOID | {"logits": [[one]] * (size // 34), "targets": [[one]] * (size // 34)}
    yield "soft labels", DENSE | {"logits": [[[0] * pixels, [1] * pixels]], "targets": [[[0] * pixels, [1] * pixels]]}
    yield "texts", DENSE | {"logits": [[[0] * pixels, [1] * pixels]], "targets": [["0"] * pixels]}
    missing = {"logits": [[[0] * pixels, [1] * pixels]], "targets": [[None] * pixels], "on_invalid": "exclude"}
    yield "missing labels, excluded", DENSE | missing
    yield "lists of different lengths", DENSE | {"logits": [[[0] * (1 + n % 2) for n in range(tokens)]], "targets": []}
    deep = orjson.Fragment(b"[" * (size // 2) + b"]" * (size // 2))
    yield "deep lists", orjson.dumps(DENSE | {"logits": deep, "targets": [[0]]})
    yield "deep ragged lists", orjson.dumps(RAGGED | {"logits": deep, "targets": [[0]]})


def _binary_bodies(size: int) -> Iterator[tuple[str, str, bytes]]:
    pixels, tokens = size // 5, size // 21
    half = np.zeros((1, 2, pixels), np.float16)
    half[:, 0] = 1
    checked = (np.arange(pixels, dtype=np.uint8) % 2).reshape(1, -1)
    dense, ragged = (orjson.dumps(layout | EVERYTHING).decode() for layout in (DENSE, RAGGED))
    yield (
        "safetensors one mask",
        SAFETENSORS,
        write_safetensors({"logits": half, "targets": checked}, {"request": dense}),
    )
    only_regions = orjson.dumps(DENSE | {"outputs": [REGIONS]}).decode()
    yield (
        "safetensors regions of one mask",
        SAFETENSORS,
        write_safetensors({"logits": half, "targets": checked}, {"request": only_regions}),
    )
    pictures = {"logits": half.reshape(-1, 2, 1), "targets": checked.reshape(-1, 1)}
    yield "safetensors masks of a pixel", SAFETENSORS, write_safetensors(pictures, {"request": dense})
    offsets = np.arange(tokens + 1)
    sentences = {"logits": np.zeros((tokens, 2), np.float32), "targets": np.ones(tokens, np.uint8), "offsets": offsets}
    yield "safetensors tokens", SAFETENSORS, write_safetensors(sentences, {"request": ragged})
    empty = {"logits": np.zeros((0, 2)), "targets": np.zeros(0, np.uint8), "offsets": np.zeros(size // 8, np.int64)}
    yield "safetensors empty examples", SAFETENSORS, write_safetensors(empty, {"request": ragged})
    for name, table in _tables(size, half, checked):
        yield f"Arrow stream {name}", ARROW, _written(table, pa.ipc.new_stream)
        yield f"Arrow file {name}", ARROW_FILE, _written(table, pa.ipc.new_file)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        yield f"Parquet {name}", PARQUET, sink.getvalue()


def _tables(size: int, half: np.ndarray[Any, Any], checked: np.ndarray[Any, Any]) -> Iterator[tuple[str, pa.Table]]:
    pixels = checked.size
    classes = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), pixels), 2)
    masks = {"logits": classes, "targets": pa.FixedSizeListArray.from_arrays(pa.array(checked.ravel()), pixels)}
    yield "one mask", pa.table(masks).replace_schema_metadata({"request": orjson.dumps(DENSE | EVERYTHING)})
    tokens = size // 25
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * tokens, np.float32)), 2)
    starts = pa.array(np.arange(tokens + 1, dtype=np.int32))
    sentences = {
        "logits": pa.ListArray.from_arrays(starts, lists),
        "targets": pa.ListArray.from_arrays(starts, pa.array(np.ones(tokens, np.uint8))),
    }
    ragged = {"request": orjson.dumps(RAGGED | EVERYTHING)}
    yield "tokens", pa.table(sentences).replace_schema_metadata(ragged)
    nothing = pa.array(np.zeros(size // 8, np.int32))
    empty = {
        "logits": pa.ListArray.from_arrays(nothing, lists[:0]),
        "targets": pa.ListArray.from_arrays(nothing, pa.array([], pa.uint8())),
    }
    yield "empty examples", pa.table(empty).replace_schema_metadata(ragged)


def _written(table: pa.Table, new_writer: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with new_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
