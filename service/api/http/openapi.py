"""What the OpenAPI document says beyond the routes: bodies, replies, problems, and an example of each format."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.api.http.problems import MEDIA_TYPE as PROBLEM
from service.errors import LossServiceError
from service.formats.safetensors import write_safetensors
from service.schema.config import ClassCounts, LossConfig
from service.schema.request import DEFAULT_OUTPUTS, OUTPUTS, RequestOptions

JSON, SAFETENSORS, ARROW = "application/json", "application/x-safetensors", "application/vnd.apache.arrow.stream"
ARROW_FILE, PARQUET, CSV = "application/vnd.apache.arrow.file", "application/vnd.apache.parquet", "text/csv"
SCHEMAS = "#/components/schemas/"

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
    "batches": [
        {
            "loss": 0.8141823,
            "loss_sum": 1.6283646,
            "alpha_sum": 3.0,
            "num_examples": 2,
            "num_ignored": 0,
            "num_excluded": 0,
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
EXAMPLE_PROBLEM = {
    "type": "urn:focal-loss-service:problem:invalid_target",
    "title": "Invalid target",
    "status": 422,
    "detail": "batch 0, row 17: target 12 is outside [0, 10) and is not ignore_index (-100)",
    "code": "invalid_target",
    "errors": [
        {
            "loc": ["batches", 0, "targets", 17],
            "msg": "target 12 is outside [0, 10) and is not ignore_index (-100)",
        }
    ],
}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


NUMBER, INTEGER, NULLABLE = {"type": "number"}, {"type": "integer"}, {"type": ["number", "null"]}
ID = {"type": ["string", "integer"]}
TENSORS = {
    "logits": {"description": "(N, C), in sigmoid mode (N,) or (N, L)", **_array({"anyOf": [NUMBER, _array(NUMBER)]})},
    "targets": {"description": "(N,), in sigmoid mode (N,) or (N, L)", **_array({"anyOf": [NUMBER, _array(NUMBER)]})},
    "ids": {"description": "(N,), unique in the request", **_array(ID)},
}
COUNTS = {"num_examples": INTEGER, "num_ignored": INTEGER, "num_excluded": INTEGER}
PLACE = {"batch": INTEGER, "index": INTEGER, "id": ID}


def _schemas() -> dict[str, Any]:
    models = (LossConfig, ClassCounts, RequestOptions)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=SCHEMAS + "{model}")
    schemas: dict[str, Any] = dict(definitions["$defs"])
    options = dict(schemas.pop("RequestOptions")["properties"])
    options["outputs"] = {**_array({"type": "string", "enum": list(OUTPUTS)}), "default": list(DEFAULT_OUTPUTS)}
    schemas["Batch"] = _object(TENSORS, "logits", "targets")
    schemas["LossRequest"] = {
        "anyOf": [
            _object({**options, **TENSORS}, "logits", "targets"),
            _object({**options, "batches": _array({"$ref": SCHEMAS + "Batch"})}, "batches"),
        ]
    }
    sums = {"loss": NULLABLE, "loss_sum": NUMBER, "alpha_sum": NUMBER}
    per_example = {"type": "object", "additionalProperties": _array({})}
    schemas["BatchResult"] = _object({**sums, **COUNTS, "per_example": per_example}, *sums, *COUNTS, "per_example")
    reply = {
        "config_id": {"type": "string"},
        "device": {"type": "string"},
        "loss": NULLABLE,
        **COUNTS,
        "batches": _array({"$ref": SCHEMAS + "BatchResult"}),
        "hardest": _array(_object({**PLACE, "loss": NUMBER, "contribution": NUMBER}, "batch", "index")),
        "excluded": _array(_object({**PLACE, "code": {"type": "string"}, "msg": {"type": "string"}}, "batch", "index")),
    }
    schemas["LossResult"] = _object(reply, *reply)
    error = _object({"loc": _array(ID), "msg": {"type": "string"}}, "loc", "msg")
    text = {name: {"type": "string"} for name in ("type", "title", "detail", "code")}
    schemas["Problem"] = {
        "type": "object",
        "description": "RFC 9457; every error has this shape",
        "properties": {**text, "status": INTEGER, "errors": _array(error)},
        "required": [*text, "status"],
    }
    return schemas


def _binary(summary: str, content: bytes) -> dict[str, Any]:
    return {
        "schema": {"type": "string", "format": "binary"},
        "examples": {
            "contract": {
                "summary": summary,
                "description": "The bytes, shown in base64; send them as they are.",
                "value": base64.b64encode(content).decode(),
            }
        },
    }


def _arrow(table: pa.Table, opened: Callable[[pa.BufferOutputStream, pa.Schema], Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


FILE_BODIES: dict[str, Any] = {
    ARROW_FILE: _binary("The same two examples as an Arrow file", _arrow(EXAMPLE_ARROW_TABLE, pa.ipc.new_file)),
    PARQUET: _binary("The same two examples as a Parquet file", _parquet(EXAMPLE_ARROW_TABLE)),
    CSV: {
        "schema": {"type": "string"},
        "examples": {
            "contract": {"summary": "The same two examples, all options left as they are", "value": EXAMPLE_CSV}
        },
    },
}
LOSS_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"{meaning}; wins over the body",
            "schema": schema,
        }
        for name, meaning, schema in (
            ("config_id", "An instance that the service holds", {"type": "string"}),
            ("outputs", "Names, separated by commas", {"type": "string"}),
            ("top_k", "How many of the hardest examples to name", {"type": "integer", "minimum": 0}),
        )
    ],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"$ref": SCHEMAS + "LossRequest"},
                "examples": {
                    "contract": {"summary": "Two examples, three classes", "value": EXAMPLE_REQUEST},
                    "batches": {"summary": "Two batches of binary labels", "value": EXAMPLE_BATCHES},
                },
            },
            SAFETENSORS: _binary("The same two examples; what is no tensor is in the metadata", EXAMPLE_SAFETENSORS),
            ARROW: _binary(
                "The same two examples; answered batch by batch while the stream arrives",
                _arrow(EXAMPLE_ARROW_TABLE, pa.ipc.new_stream),
            ),
            **FILE_BODIES,
        },
    },
}
CONFIG_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"$ref": SCHEMAS + "LossConfig"},
                "examples": {
                    "weights": {"value": {"alpha": [1.0, 2.0, 4.0], "gamma": 2.0}},
                    "counts": {"value": {"alpha": {"class_counts": [900, 90, 10], "scheme": "effective"}}},
                },
            }
        },
    }
}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"type": "object"},
                "examples": {
                    "contract": {
                        "summary": "The example of POST /loss",
                        "value": {
                            "parameters": {"config": json.dumps(EXAMPLE_OPTIONS["config"])},
                            "inputs": [
                                {
                                    "name": "logits",
                                    "datatype": "FP32",
                                    "shape": [2, 3],
                                    "data": EXAMPLE_REQUEST["logits"],
                                },
                                {
                                    "name": "targets",
                                    "datatype": "INT64",
                                    "shape": [2],
                                    "data": EXAMPLE_REQUEST["targets"],
                                },
                            ],
                            "outputs": [{"name": "loss"}, {"name": "contribution"}],
                        },
                    }
                },
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def _problem(status: int) -> dict[str, Any]:
    kinds = [kind for kind in _kinds(LossServiceError) if kind.status == status]
    known = "; ".join(sorted(f"`{kind.code}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in kinds))
    content: dict[str, Any] = {"schema": {"$ref": SCHEMAS + "Problem"}}
    if status == EXAMPLE_PROBLEM["status"]:
        content["examples"] = {"target": {"value": EXAMPLE_PROBLEM}}
    return {"description": known, "content": {PROBLEM: content}}


def _kinds(kind: type[LossServiceError]) -> list[type[LossServiceError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: _problem(status) for status in sorted({kind.status for kind in _kinds(LossServiceError)})
}
LOSS_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The loss of every batch and the contribution of every example, in the format of the request "
        "unless Accept asks for another; a Parquet, Arrow or CSV file is answered in JSON.",
        "content": {
            JSON: {
                "schema": {"$ref": SCHEMAS + "LossResult"},
                "examples": {"contract": {"summary": "Answer to the first example", "value": EXAMPLE_REPLY}},
            },
            SAFETENSORS: {"schema": {"type": "string", "format": "binary"}},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **PROBLEMS,
}


def document(app: FastAPI, *, wants_key: bool) -> None:
    """Give the app its OpenAPI document, made at the first request for it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            components["schemas"] = _schemas()
            if wants_key:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
