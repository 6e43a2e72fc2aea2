"""One request with a layout as the bytes of every format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from service.codecs.negotiation import reader
from service.codecs.open_inference import InferRequest, decode_request
from service.formats.safetensors import write_safetensors
from service.schema.request import LossRequest
from tests.codecs.file_bodies import arrow_file, arrow_stream, parquet_file

Array = np.ndarray[Any, np.dtype[Any]]
JSON, SAFETENSORS = "application/json", "application/x-safetensors"
ARROW, ARROW_FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
DATATYPES = {"float64": "FP64", "float32": "FP32", "int64": "INT64"}


class Examples(NamedTuple):
    """A batch; its parts are `logits` and `targets`, or `targets` and statistics."""

    parts: dict[str, Array]
    offsets: Array | None = None
    ids: list[str] | None = None

    def lists(self, part: str) -> list[Any]:
        """A part as nested lists, with None for NaN."""
        values = [_plain(item) for item in self.parts[part]]
        if self.offsets is None:
            return values
        return [values[start:stop] for start, stop in pairwise(self.offsets.tolist())]


@dataclass(frozen=True)
class Structured:
    """Batches of one layout, and the other members of the request."""

    layout: str
    batches: list[Examples]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> dict[str, Any]:
        return {"layout": self.layout, **self.options}


def _plain(value: Any) -> Any:
    if np.ndim(value):
        return [*map(_plain, value)]
    return None if np.isnan(value) else value.item()


def bodies(sent: Structured) -> Iterator[tuple[str, bytes]]:
    """The media types that can hold the request, and the bytes."""
    yield JSON, json_body(sent)
    yield SAFETENSORS, safetensors_body(sent)
    yield ARROW, arrow_body(sent, fixed=False)
    if len(sent.batches) == 1:
        table = _table(sent, sent.batches[0], fixed=sent.layout == "dense")
        yield ARROW_FILE, arrow_file(table)
        yield PARQUET, parquet_file(_table(sent, sent.batches[0], fixed=False))


def decoders(sent: Structured) -> Iterator[tuple[str, Callable[[], LossRequest]]]:
    """The formats that can hold the request, each with a function that decodes it."""
    for media_type, body in bodies(sent):
        yield media_type, lambda media_type=media_type, body=body: reader(media_type).decode(bytearray(body))
    if len(sent.batches) == 1:
        for binary in (True, False):
            yield f"inference, binary {binary}", lambda binary=binary: infer_request(sent, binary=binary).loss_request


def json_body(sent: Structured) -> bytes:
    batches = [
        {part: batch.lists(part) for part in batch.parts} | ({} if batch.ids is None else {"ids": batch.ids})
        for batch in sent.batches
    ]
    return json.dumps(sent.members | (batches[0] if len(batches) == 1 else {"batches": batches})).encode()


def safetensors_body(sent: Structured) -> bytes:
    tensors = {}
    for number, batch in enumerate(sent.batches):
        tensors |= {f"{part}.{number}": values for part, values in batch.parts.items()}
        if batch.offsets is not None:
            tensors[f"offsets.{number}"] = batch.offsets
    ids = [{} if batch.ids is None else {"ids": batch.ids} for batch in sent.batches]
    return write_safetensors(tensors, {"request": json.dumps({**sent.members, "batches": ids})})


def arrow_body(sent: Structured, *, fixed: bool) -> bytes:
    """A stream with a record batch for each batch."""
    tables = [_table(sent, batch, fixed=fixed) for batch in sent.batches]
    if len(tables) == 1:
        return arrow_stream(tables[0])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_batch(pa.record_batch([column.combine_chunks() for column in table.columns], table.schema))
    return bytes(sink.getvalue())


def _table(sent: Structured, batch: Examples, *, fixed: bool) -> pa.Table:
    columns = {part: nested_column(values, batch.offsets, fixed=fixed) for part, values in batch.parts.items()}
    if batch.ids is not None:
        columns["id"] = pa.array(batch.ids, pa.string())
    return pa.table(columns).replace_schema_metadata({"request": json.dumps(sent.members)})


def nested_column(values: Array, offsets: Array | None, *, fixed: bool) -> pa.Array:
    """Nested lists of any size, or of fixed sizes; NaN is null."""
    column = pa.array(values.ravel(), mask=np.isnan(values.ravel()))
    for axis in range(values.ndim - 1, 0, -1):
        size = values.shape[axis]
        if fixed:
            column = pa.FixedSizeListArray.from_arrays(column, size)
        else:
            starts = np.arange(int(np.prod(values.shape[:axis])) + 1, dtype=np.int32) * size
            column = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), column)
    return column if offsets is None else pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column)


def infer_request(sent: Structured, *, binary: bool) -> InferRequest:
    """The request of the inference protocol, decoded; options of objects are JSON texts."""
    (batch,) = sent.batches
    tensors = batch.parts | ({} if batch.offsets is None else {"offsets": batch.offsets})
    inputs, tail = [], b""
    for name, values in tensors.items():
        entry: dict[str, Any] = {"name": name, "datatype": DATATYPES[values.dtype.name], "shape": values.shape}
        if binary or np.isnan(values).any():
            tail += values.tobytes()
            entry["parameters"] = {"binary_data_size": values.nbytes}
        else:
            entry["data"] = values.tolist()
        inputs.append(entry)
    if batch.ids is not None:
        inputs.append({"name": "ids", "datatype": "BYTES", "shape": [len(batch.ids)], "data": batch.ids})
    parameters = {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in sent.members.items()
        if name not in ("outputs", "elements")
    }
    outputs = [{"name": name} for name in _output_names(sent.options)]
    header = json.dumps({"inputs": inputs, "parameters": parameters, "outputs": outputs}).encode()
    return decode_request(bytearray(header + tail), len(header))


def _output_names(options: dict[str, Any]) -> Sequence[str]:
    examples = [
        "per_example_loss" if name == "loss" else name for name in options.get("outputs", []) if name != "regions"
    ]
    return [*examples, *(f"per_element.{name}" for name in options.get("elements", []))]
