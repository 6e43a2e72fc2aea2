"""Batches for a run, in every format of the wire."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from service.schema.request import STATISTICS

JSON, SAFETENSORS, ARROW = "application/json", "application/x-safetensors", "application/vnd.apache.arrow.stream"
ARROW_FILE, PARQUET = "application/vnd.apache.arrow.file", "application/vnd.apache.parquet"
KINDS = (JSON, SAFETENSORS, ARROW, ARROW_FILE, PARQUET)


INTEGERS = ("targets", "prediction")


def batch_of(number: int, seed: int = 0, num_classes: int = 3) -> dict[str, Any]:
    """Logits that float32 holds, targets, ids and attributes, as JSON has them."""
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.standard_normal((number, num_classes)).astype(np.float32).astype(float).tolist(),
        "targets": rng.integers(0, num_classes, number).tolist(),
        "ids": [f"{seed}-{row}" for row in range(number)],
        "attributes": {"text": [f"text {row}" for row in range(number)], "group": [row % 3 for row in range(number)]},
    }


def encoded(batch: dict[str, Any], media_type: str) -> bytes:
    """The batch in a format; options beside the tensors go where the format has them."""
    tensors = [name for name in ("targets", "logits", *STATISTICS) if name in batch]
    rest = {name: value for name, value in batch.items() if name not in tensors}
    if media_type == JSON:
        return json.dumps(batch).encode()
    if media_type == SAFETENSORS:
        arrays = {name: np.array(batch[name], None if name in INTEGERS else np.float32) for name in tensors}
        return bytes(save(arrays, {"request": json.dumps(rest)}))
    options = {name: value for name, value in rest.items() if name not in ("ids", "attributes")}
    table = pa.table(
        {
            **{name: pa.array(batch[name], _arrow_type(name)) for name in tensors},
            "id": batch["ids"],
            **batch.get("attributes", {}),
        }
    ).replace_schema_metadata({"request": json.dumps(options)})
    sink = pa.BufferOutputStream()
    if media_type == PARQUET:
        pq.write_table(table, sink)
        return bytes(sink.getvalue())
    opened = pa.ipc.new_file if media_type == ARROW_FILE else pa.ipc.new_stream
    with opened(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return bytes(sink.getvalue())


def _arrow_type(name: str) -> pa.DataType:
    if name in INTEGERS:
        return pa.int64()
    return pa.list_(pa.float32()) if name == "logits" else pa.float32()
