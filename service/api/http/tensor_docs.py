"""Documentation of the routes that take tensors: their bodies have several formats, which FastAPI does not read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.api.http.openapi import JSON, Operation, Responses, schema
from service.api.http.query_types import list_pattern, optional_pattern
from service.formats.part_names import TARGET_NAMES
from service.formats.safetensors import write_safetensors
from service.schema.config import LossConfig
from service.schema.replies.inference import InferReply, InferRequestBody
from service.schema.replies.service import LossReply
from service.schema.request import DEFAULT_OUTPUTS, MAX_TOP_K, OUTPUTS, RequestOptions

SAFETENSORS, ARROW = "application/x-safetensors", "application/vnd.apache.arrow.stream"
ARROW_FILE, PARQUET = "application/vnd.apache.arrow.file", "application/vnd.apache.parquet"
CSV, TSV = "text/csv", "text/tab-separated-values"
OCTETS = "application/octet-stream"

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
NUMBER, INTEGER = {"type": "number"}, {"type": "integer"}
TENSOR = {"type": "array", "items": {"anyOf": [NUMBER, {"type": "array", "items": NUMBER}]}}
LABEL = {"type": ["integer", "number", "boolean", "string", "null"]}
STATISTIC_MEANINGS = {
    "log_odds": "z = log(p_t / (1 - p_t)), from which the loss follows; required without logits",
    "prediction": "the class with the largest logit",
    "entropy": "of the probabilities",
    "logit_margin": "the logit of the target minus the largest other one",
    "normalized_margin": "the same of the probabilities, as (p_t - p + 1) / 2; follows from logit_margin",
    "el2n": "the norm of probabilities minus one-hot label",
}
TENSORS: Operation = {
    "logits": {"description": "(N, C), in sigmoid mode (N,) or (N, L)", **TENSOR},
    "targets": {
        "description": f"(N,), in sigmoid mode (N,) or (N, L); may also be called {', '.join(TARGET_NAMES[1:])}",
        "type": "array",
        "items": {"anyOf": [LABEL, {"type": "array", "items": LABEL}]},
    },
    "ids": {
        "description": "(N,), unique in the request; may also be called id",
        "type": "array",
        "items": {"type": ["string", "integer"]},
    },
}
# In place of the logits.
STATISTICS: Operation = {
    name: {"description": f"Of the shape of the targets: {meaning}", **TENSOR}
    for name, meaning in STATISTIC_MEANINGS.items()
}
ATTRIBUTES: Operation = {
    "description": "(N,) values under each name, stored with the examples",
    "type": "object",
    "additionalProperties": {"type": "array"},
}


def _object(properties: Operation, *required: str) -> Operation:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _loss_request(tensors: Operation, *, required: tuple[str, ...]) -> Operation:
    """The schema of a JSON body: options, and one batch or a list of them, each with logits or with statistics."""
    options = schema(RequestOptions)
    definitions = options["$defs"]
    properties = definitions.pop("RequestOptions")["properties"]
    properties["outputs"] = {
        "type": "array",
        "items": {"type": "string", "enum": list(OUTPUTS)},
        "default": list(DEFAULT_OUTPUTS),
    }
    others = {name: tensor for name, tensor in tensors.items() if name != "logits"}
    kinds = [(tensors, ("logits", *required)), (others | STATISTICS, ("log_odds", *required))]
    batches = {"type": "array", "items": {"anyOf": [_object(parts, *names) for parts, names in kinds]}}
    one_batch = [_object(properties | parts, *names) for parts, names in kinds]
    return {"anyOf": [*one_batch, _object(properties | {"batches": batches}, "batches")], "$defs": definitions}


def _binary(summary: str, content: bytes) -> Operation:
    return {
        "schema": BINARY,
        "examples": {
            "contract": {
                "summary": summary,
                "description": "The bytes, shown in base64; send them as they are.",
                "value": base64.b64encode(content).decode(),
            }
        },
    }


def _text(content: str) -> Operation:
    example = {"summary": "The same two examples with default options", "value": content}
    return {"schema": {"type": "string"}, "examples": {"contract": example}}


def _arrow(table: pa.Table, new_writer: Callable[[pa.BufferOutputStream, pa.Schema], Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with new_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


BINARY = {"type": "string", "format": "binary"}
BINARY_BODIES: Operation = {
    SAFETENSORS: _binary("The same two examples; options and ids are in the metadata", EXAMPLE_SAFETENSORS),
    ARROW: _binary("The same two examples as an Arrow stream", _arrow(EXAMPLE_ARROW_TABLE, pa.ipc.new_stream)),
    ARROW_FILE: _binary("The same two examples as an Arrow file", _arrow(EXAMPLE_ARROW_TABLE, pa.ipc.new_file)),
    PARQUET: _binary("The same two examples as a Parquet file", _parquet(EXAMPLE_ARROW_TABLE)),
    CSV: _text(EXAMPLE_CSV),
    TSV: _text(EXAMPLE_CSV.replace(",", "\t")),
}
_OUTPUT = f"({'|'.join(OUTPUTS)})"
OVERRIDES = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": f"{meaning}; overrides the body",
        "schema": json_schema,
    }
    for name, meaning, json_schema in (
        ("config_id", "Id of a stored configuration", {"type": "string"}),
        (
            "outputs",
            "Names of outputs, with commas",
            {"type": "string", "pattern": optional_pattern(list_pattern(_OUTPUT))},
        ),
        ("top_k", "Number of the hardest examples to list", {"type": "integer", "minimum": 0, "maximum": MAX_TOP_K}),
    )
]


def _tensor_body(json_schema: Operation, examples: Operation, *parameters: Operation) -> Operation:
    content = {JSON: {"schema": json_schema, "examples": examples}, **BINARY_BODIES}
    return {"parameters": [*OVERRIDES, *parameters], "requestBody": {"required": True, "content": content}}


LOSS_BODY = _tensor_body(
    _loss_request(TENSORS, required=("targets",)),
    {
        "contract": {"summary": "Two examples, three classes", "value": EXAMPLE_REQUEST},
        "batches": {"summary": "Two batches of binary labels", "value": EXAMPLE_BATCHES},
    },
)
RUN_BATCH_BODY = _tensor_body(
    _loss_request(TENSORS | {"attributes": ATTRIBUTES}, required=("targets", "ids")),
    {"contract": {"summary": "Two examples with attributes", "value": EXAMPLE_RUN_BATCH}},
    {
        "name": "replace",
        "in": "query",
        "required": False,
        "description": "Replace a batch of this name with other content, instead of 409",
        "schema": {"type": "boolean", "default": False},
    },
)


def _loss_reply(description: str) -> Operation:
    return {
        "description": description,
        "content": {
            JSON: {
                "schema": schema(LossReply),
                "examples": {"contract": {"summary": "Reply to the first example", "value": EXAMPLE_REPLY}},
            },
            SAFETENSORS: {"schema": BINARY},
            ARROW: {"schema": BINARY},
        },
    }


LOSS_REPLY: Responses = {
    200: _loss_reply(
        "The loss of each batch and the contribution of each example, in the format of the request unless Accept names "
        "another; the reply to a Parquet, Arrow or CSV file is JSON."
    )
}
RUN_BATCH_REPLY: Responses = {
    201: _loss_reply("The batch is stored; the reply is that of /loss."),
    200: _loss_reply("The same batch was stored before, or it replaces another one; the reply is that of /loss."),
}
INFER_BODY: Operation = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": schema(InferRequestBody), "examples": {"contract": EXAMPLE_INFER}},
            OCTETS: {"schema": BINARY},
        },
    }
}
INFER_REPLY: Responses = {
    200: {
        "description": "The outputs; in JSON, or as binary data behind it if the request asks for binary outputs",
        "content": {JSON: {"schema": schema(InferReply)}, OCTETS: {"schema": BINARY}},
    }
}
