"""Worst bodies of the routes that take tensors, in every format."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.api.http.tensor_docs import ARROW, ARROW_FILE, CSV, PARQUET, SAFETENSORS
from service.formats.safetensors import write_safetensors
from service.schema.request import OUTPUTS
from tests.bounds.worst_request import WorstRequest, json_request

ALL_OUTPUTS = {"outputs": list(OUTPUTS), "top_k": 1_000_000}
SIGMOID = {"config": {"mode": "sigmoid"}}
# Rows that a file of a few hundred bytes claims, for each byte of the other bodies.
CLAIMED_ROWS = 100


def loss_bodies(method: str, path: str, size: int, *, stored: bool) -> Iterator[WorstRequest]:
    """Worst bodies of `POST /loss`, or of a batch of a run, which needs ids and takes attributes."""
    for name, value in _json_values(size, stored):
        yield json_request(method, f"JSON {name}", path, value)
    rows = json_request(method, "JSON rows", path, next(value for _, value in _json_values(size, stored)))
    yield rows.compressed()
    yield rows.in_chunks()
    yield replace(json_request(method, "JSON spaces", path, b" " * 64 * size + b"{}").compressed(), name="gzip bomb")
    for name, kind, body in _binary_bodies(size, stored):
        yield WorstRequest(method, name, path, body, {"Content-Type": kind})


def infer_bodies(path: str, size: int) -> Iterator[WorstRequest]:
    """Worst bodies of an inference of the Open Inference Protocol."""

    def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": shape, "data": data}

    def body(*inputs: dict[str, Any], **members: Any) -> dict[str, Any]:
        return {"inputs": list(inputs), **members}

    rows, classes = size // 12, size // 12
    targets = tensor("targets", "INT64", [rows], [0] * rows)
    nested = [[0.5] * 2] * rows
    outputs = {"outputs": [{"name": name} for name in OUTPUTS]}
    values = {
        "rows": body(tensor("logits", "FP32", [rows, 2], [0.5] * 2 * rows), targets, **outputs),
        "nested rows": body(tensor("logits", "FP32", [rows, 2], nested), targets),
        "classes": body(
            tensor("logits", "FP64", [2, classes], [0.5] * 2 * classes), tensor("targets", "INT64", [2], [0, 1])
        ),
        "inputs": body(*[tensor(f"i{number}", "FP32", [1], [0]) for number in range(size // 60)]),
        "equal inputs": body(*[tensor("logits", "FP32", [1, 2], [0, 0])] * (size // 60)),
        "outputs": body(targets, outputs=[{"name": "loss"}] * (size // 15)),
        "claimed rows": body(tensor("logits", "FP32", [10**9, 2], [0.5]), targets),
        "zero width": body(tensor("logits", "FP32", [10**9, 0], []), tensor("targets", "INT64", [10**9], [])),
        "dimensions": body(tensor("logits", "FP32", [1] * (size // 2), [0.5]), targets),
        "texts": body(tensor("ids", "BYTES", [rows], ["x"] * rows), targets),
    }
    for name, value in values.items():
        yield json_request("POST", f"JSON {name}", path, value)
    rows = size // 16
    head = {"inputs": [_binary("logits", "FP32", [rows, 2], 8 * rows), _binary("targets", "INT64", [rows], 8 * rows)]}
    head |= {"outputs": [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]}
    header = orjson.dumps(head)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    yield WorstRequest("POST", "binary rows", path, header + bytes(16 * rows), headers)


def _binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def _json_values(size: int, stored: bool) -> Iterator[tuple[str, Any]]:
    def batch(rows: int, classes: int, first: int = 0, **members: Any) -> dict[str, Any]:
        value = {"logits": [[0.5] * classes] * rows, "targets": [0] * rows, **members}
        return value | ({"ids": list(range(first, first + rows))} if stored else {})

    narrow = size // 20
    yield "rows", batch(narrow, 2) | ALL_OUTPUTS
    yield "classes", batch(2, size // 8)
    yield "classes, all outputs", batch(2, size // 8) | ALL_OUTPUTS
    yield "text ids", batch(narrow, 2) | {"ids": [f"{number:07}" for number in range(narrow)]}
    yield "long id", batch(1, 2) | {"ids": ["x" * size]}
    yield "equal ids", batch(narrow, 2) | {"ids": ["x"] * narrow}
    one, count = batch(1, 2), size // (36 + 12 * stored)
    yield "batches of one row", {"batches": [batch(1, 2, number) if stored else one for number in range(count)]}
    yield "empty batches", {"batches": [{"logits": [], "targets": []}] * (size // 25)}
    yield "labels", SIGMOID | {"logits": [[0.5] * (size // 12)] * 2, "targets": [[0] * (size // 12)] * 2}
    yield "rows of one label", SIGMOID | batch(narrow, 1) | {"logits": [0.5] * narrow} | ALL_OUTPUTS
    yield "alpha", {"config": {"alpha": [1.0] * (size // 8)}} | batch(2, size // 8)
    yield "counts", {"config": {"alpha": {"class_counts": [7] * (size // 4), "scheme": "effective"}}} | batch(1, 2)
    yield "bad logits, excluded", {"on_invalid": "exclude"} | batch(narrow, 2) | {"logits": [[None, 0.5]] * narrow}
    yield "bad targets", batch(narrow, 2) | {"targets": [9] * narrow}
    yield (
        "rows of different lengths",
        batch(narrow, 2) | {"logits": [[0.5] * (1 + number % 2) for number in range(narrow)]},
    )
    yield "long numbers", batch(1, 2) | {"logits": orjson.Fragment(b"[[" + b"1" * size + b",0." + b"1" * size + b"]]")}
    yield "deep logits", batch(1, 2) | {"logits": orjson.Fragment(b"[" * size + b"]" * size)}
    yield "unknown members", batch(1, 2) | {f"member{number}": 0 for number in range(size // 16)}
    yield "outputs", batch(1, 2) | {"outputs": ["loss"] * (size // 7)}
    if stored:
        yield "attributes", batch(2, 2) | {"attributes": {f"a{number}": [0, "x"] for number in range(size // 16)}}
        yield "long attribute", batch(1, 2) | {"attributes": {"a": ["x" * size]}}
        yield (
            "attribute objects",
            batch(1, 2) | {"attributes": {"a": [{f"m{number}": [] for number in range(size // 14)}]}},
        )
        deep = orjson.Fragment(b"[" * 250 + b"]" * 250)
        yield "deep attributes", batch(narrow // 250, 2) | {"attributes": {"a": [deep] * (narrow // 250)}}


def _binary_bodies(size: int, stored: bool) -> Iterator[tuple[str, str, bytes]]:
    rows = size // 24
    logits, targets = np.zeros((rows, 2), np.float32), np.zeros(rows, np.int64)
    wide = np.zeros((2, size // 8), np.float32)
    ids = {"id": pa.array(range(rows))} if stored else {}
    two_ids = {"id": pa.array(["a", "b"])} if stored else {}
    metadata = {"request": orjson.dumps({"ids": list(range(rows))} if stored else {}).decode()}
    yield "safetensors rows", SAFETENSORS, write_safetensors({"logits": logits, "targets": targets}, metadata)
    yield "safetensors classes", SAFETENSORS, write_safetensors({"logits": wide, "targets": targets[:2]}, {})
    soft = {"logits": wide[:1], "targets": np.full_like(wide[:1], 1 / wide.shape[1])}
    yield "safetensors soft labels", SAFETENSORS, write_safetensors(soft, {})
    smoothing = {"request": orjson.dumps({"config": {"label_smoothing": 0.1}}).decode()}
    smoothed = {"logits": wide, "targets": targets[:2]}
    yield "safetensors smoothed classes", SAFETENSORS, write_safetensors(smoothed, smoothing)
    one_row = {"logits": np.zeros((1, size // 3), np.float16), "targets": np.zeros((1, size // 3), np.uint8)}
    yield "safetensors labels", SAFETENSORS, write_safetensors(one_row, {"request": orjson.dumps(SIGMOID).decode()})
    empty = np.zeros((0, 2), np.float32)
    many = {f"{name}.{number}": empty for number in range(size // 200) for name in ("logits", "targets")}
    yield "safetensors tensors", SAFETENSORS, write_safetensors(many, {})
    tables = {
        "rows": pa.table({"logits": _vectors(logits), "targets": pa.array(targets), **ids}),
        "classes": pa.table({"logits": _vectors(wide), "targets": pa.array([0, 1]), **two_ids}),
        "zero width": _zero_width(CLAIMED_ROWS * size),
        "nulls": pa.table({"logits": pa.nulls(CLAIMED_ROWS * size), "label": pa.nulls(CLAIMED_ROWS * size)}),
        "columns": pa.table(
            {f"logit_{number}": [0.5, 0.5] for number in range(size // 150)} | {"label": [0, 1]} | two_ids
        ),
        "equal columns": pa.Table.from_arrays([pa.array([0.5])] * (size // 150), ["logit_0"] * (size // 150)),
        "long id": pa.table({"logits": _vectors(logits[:1]), "targets": [0], "id": ["x" * size]}),
    }
    if stored:
        attributes = {f"a{number}": ["x", "y"] for number in range(size // 150)}
        tables["attributes"] = pa.table({"logits": _vectors(wide[:, :2]), "targets": [0, 1], **two_ids, **attributes})
    for name, table in tables.items():
        yield f"Arrow stream {name}", ARROW, _arrow(table, pa.ipc.new_stream)
        yield f"Arrow file {name}", ARROW_FILE, _arrow(table, pa.ipc.new_file)
        if name != "nulls":
            sink = io.BytesIO()
            # A Parquet file has no columns of width 0, and compresses equal rows to almost nothing.
            with_width = pa.table({"logits": pa.array([[]] * (size // 8)), "label": [0] * (size // 8)})
            pq.write_table(with_width if name == "zero width" else table, sink)
            yield f"Parquet {name}", PARQUET, sink.getvalue()
    yield "Arrow stream record batches", ARROW, _record_batches(size // 500)
    for name, body in _csv_bodies(size):
        yield f"CSV {name}", CSV, body


def _csv_bodies(size: int) -> Iterator[tuple[str, bytes]]:
    columns = size // 15
    header = ",".join(["id", "label", *(f"logit_{number}" for number in range(columns))])
    yield "columns", f"{header}\na,0{',0' * columns}\n".encode()
    yield "equal columns", (b"id,label" + b",logit_0" * columns + b"\n")
    row = "%d,0,0.5,0.5\n"
    yield "rows", ("id,label,logit_0,logit_1\n" + "".join(row % number for number in range(size // 18))).encode()
    yield "long cell", b'id,label,logit_0,logit_1\n"' + b"x" * size + b'",0,0.5,0.5\n'
    yield "open quote", b'id,label,logit_0,logit_1\n"' + b"a,0,0.5,0.5\n" * (size // 12)
    yield "line feeds", b"id,label,logit_0,logit_1\n" + b"\n" * size
    yield "commas", b"," * size


def _vectors(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _zero_width(rows: int) -> pa.Table:
    kind = pa.list_(pa.float32(), 0)
    logits = pa.Array.from_buffers(kind, rows, [None], children=[pa.array([], pa.float32())])
    return pa.table({"logits": logits, "label": pa.nulls(rows)})


def _record_batches(count: int) -> bytes:
    batch = pa.RecordBatch.from_pydict({"logits": pa.array([[0.5, 0.5]], pa.list_(pa.float32(), 2)), "label": [0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _arrow(table: pa.Table, new_writer: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with new_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
