"""Documentation of the routes that take tensors: their bodies have several formats, which FastAPI does not read."""

from __future__ import annotations

import base64

import pyarrow as pa

from service.api.http.openapi import JSON, SCHEMAS, Operation, Responses, schema
from service.api.http.query_types import list_pattern, optional_pattern
from service.api.http.tensor_examples import (
    EXAMPLE_ARROW_TABLE,
    EXAMPLE_BATCHES,
    EXAMPLE_CSV,
    EXAMPLE_INFER,
    EXAMPLE_MASKS,
    EXAMPLE_REPLY,
    EXAMPLE_REQUEST,
    EXAMPLE_RUN_BATCH,
    EXAMPLE_SAFETENSORS,
    EXAMPLE_SENTENCES,
    EXAMPLE_STATISTICS,
    arrow_bytes,
    parquet_bytes,
)
from service.formats.arrays import MAX_DIMENSIONS
from service.formats.part_names import TARGET_NAMES
from service.schema.replies.inference import InferReply, InferRequestBody
from service.schema.replies.service import LossReply
from service.schema.request import DEFAULT_OUTPUTS, ELEMENT_OUTPUTS, MAX_TOP_K, OUTPUTS, REGIONS, RequestOptions

SAFETENSORS, ARROW = "application/x-safetensors", "application/vnd.apache.arrow.stream"
ARROW_FILE, PARQUET = "application/vnd.apache.arrow.file", "application/vnd.apache.parquet"
CSV, TSV = "text/csv", "text/tab-separated-values"
OCTETS = "application/octet-stream"

NUMBER, INTEGER = {"type": "number"}, {"type": "integer"}
LABEL = {"type": ["integer", "number", "boolean", "string", "null"]}
STATISTIC_MEANINGS = {
    "log_odds": "z = log(p_t / (1 - p_t)), from which the loss follows; required without logits",
    "prediction": "the class with the largest logit",
    "entropy": "of the probabilities",
    "logit_margin": "the logit of the target minus the largest other one",
    "normalized_margin": "the same of the probabilities, as (p_t - p + 1) / 2; follows from logit_margin",
    "el2n": "the norm of probabilities minus one-hot label",
    "element_count": "elements that this one stands for, of the same class and nearly the same log-odds; layout ragged",
}


def _nested(name: str, value: Operation) -> tuple[Operation, Operation]:
    """The schema of a list of values or lists, and its definition by that name."""
    items = {"$ref": SCHEMAS + name}
    description = f"A value, or a list of values or lists, at most {MAX_DIMENSIONS} in each other."
    definition = {"description": description, "anyOf": [value, {"type": "array", "items": items}]}
    return {"type": "array", "items": items}, {name: definition}


NUMBERS, NUMBERS_DEFINITION = _nested("NestedNumbers", NUMBER)
LABELS, LABELS_DEFINITION = _nested("NestedLabels", LABEL)
TENSORS: Operation = {
    "logits": {
        "description": "Layout rows: (N, C), in sigmoid mode (N,) or (N, L). dense: (N, C, d1, ...), in sigmoid mode "
        "(N, L, d1, ...) or (N, d1, ...). ragged: a list of elements for each example, each C numbers, in sigmoid mode "
        "a number or L numbers.",
        **NUMBERS,
    },
    "targets": {
        "description": "The logits' shape without the classes; with them for soft labels; in sigmoid mode the logits' "
        f"shape. May also be called {', '.join(TARGET_NAMES[1:])}.",
        **LABELS,
    },
    "ids": {
        "description": "(N,), unique in the request; may also be called id",
        "type": "array",
        "items": {"type": ["string", "integer"]},
    },
}
# In place of the logits.
STATISTICS: Operation = {
    name: {"description": f"Of the shape of the targets: {meaning}", **NUMBERS}
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
    properties["outputs"] = _names(*OUTPUTS, REGIONS) | {"default": list(DEFAULT_OUTPUTS)}
    properties["elements"] = _names(*ELEMENT_OUTPUTS) | {"default": []}
    others = {name: tensor for name, tensor in tensors.items() if name != "logits"}
    kinds = [(tensors, ("logits", *required)), (others | STATISTICS, ("log_odds", *required))]
    batches = {"type": "array", "items": {"anyOf": [_object(parts, *names) for parts, names in kinds]}}
    one_batch = [_object(properties | parts, *names) for parts, names in kinds]
    return {
        "anyOf": [*one_batch, _object(properties | {"batches": batches}, "batches")],
        "$defs": definitions | NUMBERS_DEFINITION | LABELS_DEFINITION,
    }


def _names(*names: str) -> Operation:
    return {"type": "array", "items": {"type": "string", "enum": list(names)}}


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


BINARY = {"type": "string", "format": "binary"}
BINARY_BODIES: Operation = {
    SAFETENSORS: _binary("The same two examples; options and ids are in the metadata", EXAMPLE_SAFETENSORS),
    ARROW: _binary("The same two examples as an Arrow stream", arrow_bytes(EXAMPLE_ARROW_TABLE, pa.ipc.new_stream)),
    ARROW_FILE: _binary("The same two examples as an Arrow file", arrow_bytes(EXAMPLE_ARROW_TABLE, pa.ipc.new_file)),
    PARQUET: _binary("The same two examples as a Parquet file", parquet_bytes(EXAMPLE_ARROW_TABLE)),
    CSV: _text(EXAMPLE_CSV),
    TSV: _text(EXAMPLE_CSV.replace(",", "\t")),
}
_OUTPUT = f"({'|'.join((*OUTPUTS, REGIONS))})"
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
        "masks": {"summary": "A mask of two by two pixels, one of them ignored", "value": EXAMPLE_MASKS},
        "sentences": {"summary": "Two sentences of two tokens and one", "value": EXAMPLE_SENTENCES},
        "statistics": {"summary": "Scores in place of the logits of two examples", "value": EXAMPLE_STATISTICS},
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
