"""Examples of bodies and replies of the routes that take tensors, for the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.formats.safetensors import write_safetensors
from service.schema.config import LossConfig

EXAMPLE_OPTIONS = {
    "config": {"alpha": [1.0, 2.0, 4.0], "gamma": 2.0},
    "outputs": ["loss", "contribution", "p_t", "prediction"],
    "top_k": 1,
}
EXAMPLE_REQUEST = {
    **EXAMPLE_OPTIONS,
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]],
    "targets": [0, 1],
    "ids": ["a", "b"],
}
EXAMPLE_BATCHES = {
    "config": {"mode": "sigmoid", "alpha": 0.25},
    "batches": [{"logits": [2.0, -1.0, 0.5], "targets": [1, 0, 1]}, {"logits": [0.1, -3.0], "targets": [0, 1]}],
}
EXAMPLE_SAFETENSORS = write_safetensors(
    {
        "logits": np.array(EXAMPLE_REQUEST["logits"], np.float32),
        "targets": np.array(EXAMPLE_REQUEST["targets"], np.int64),
    },
    {"request": json.dumps({**EXAMPLE_OPTIONS, "ids": EXAMPLE_REQUEST["ids"]})},
)
EXAMPLE_ARROW_TABLE = pa.table(
    {
        "logits": pa.array(EXAMPLE_REQUEST["logits"], pa.list_(pa.float32(), 3)),
        "targets": EXAMPLE_REQUEST["targets"],
        "id": EXAMPLE_REQUEST["ids"],
    }
).replace_schema_metadata({"request": json.dumps(EXAMPLE_OPTIONS)})
EXAMPLE_CSV = "id,logit_0,logit_1,logit_2,label\na,2.0,0.1,-1.0,0\nb,0.3,0.2,0.9,1\n"
EXAMPLE_REPLY = {
    "config_id": LossConfig.parse(EXAMPLE_OPTIONS["config"]).config_id,
    "device": "cpu",
    "loss": 0.8141823,
    "num_examples": 2,
    "num_ignored": 0,
    "num_excluded": 0,
    "num_elements": 2,
    "batches": [
        {
            "loss": 0.8141823,
            "loss_sum": 1.6283646,
            "alpha_sum": 3.0,
            "num_examples": 2,
            "num_ignored": 0,
            "num_excluded": 0,
            "num_elements": 2,
            "per_example": {
                "loss": [0.0050225, 1.6233421],
                "contribution": [0.0025112, 0.8116711],
                "p_t": [0.8337810, 0.2427819],
                "prediction": [0, 2],
            },
        }
    ],
    "hardest": [{"batch": 0, "index": 1, "id": "b", "loss": 1.6233421, "contribution": 0.8116711}],
    "excluded": [],
}
EXAMPLE_RUN_BATCH = {
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]],
    "targets": [0, 1],
    "ids": ["a", "b"],
    "attributes": {"text": ["a cat", "a dog, I think"], "annotator": ["kim", "lee"]},
    "outputs": ["loss", "p_t"],
}
EXAMPLE_INFER = {
    "summary": "The example of POST /loss",
    "value": {
        "parameters": {"config": json.dumps(EXAMPLE_OPTIONS["config"])},
        "inputs": [
            {"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": EXAMPLE_REQUEST["logits"]},
            {"name": "targets", "datatype": "INT64", "shape": [2], "data": EXAMPLE_REQUEST["targets"]},
        ],
        "outputs": [{"name": "loss"}, {"name": "contribution"}],
    },
}
EXAMPLE_STATISTICS = {
    **EXAMPLE_OPTIONS,
    "log_odds": [1.6129, -1.1375],
    "prediction": [0, 2],
    "targets": EXAMPLE_REQUEST["targets"],
}
EXAMPLE_MASKS = {
    "layout": "dense",
    "logits": [[[[2.0, 0.1], [0.3, -1.0]], [[0.0, 0.4], [1.5, 0.2]]]],
    "targets": [[[0, 1], [1, -100]]],
    "outputs": ["loss", "num_valid", "label_quality", "regions"],
    "elements": ["loss", "prediction"],
}
EXAMPLE_SENTENCES = {
    "layout": "ragged",
    "logits": [[[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]], [[0.0, 1.0, 0.0]]],
    "targets": [[0, 2], [1]],
    "ids": ["a", "b"],
    "divisor": "examples",
    "within": "max",
}


def arrow_bytes(table: pa.Table, new_writer: Callable[[pa.BufferOutputStream, pa.Schema], Any]) -> bytes:
    """Encode a table as an Arrow stream or file."""
    sink = pa.BufferOutputStream()
    with new_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
