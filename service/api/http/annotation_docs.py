"""Documentation of the body of `PUT /runs/{run}/annotations`, which has several formats."""

from __future__ import annotations

import base64

import pyarrow as pa

from service.api.http.openapi import JSON, Operation, schema
from service.api.http.tensor_docs import ARROW, ARROW_FILE, CSV, PARQUET, TSV
from service.api.http.tensor_examples import arrow_bytes, parquet_bytes
from service.mining.annotation_rows import AnnotationRequest

EXAMPLE = [
    {"id": "a", "annotator": "kim", "label": 0},
    {"id": "a", "annotator": "lee", "label": 2},
    {"id": "b", "annotator": "kim", "label": 1},
]
EXAMPLE_CSV = "id,annotator,label\na,kim,0\na,lee,2\nb,kim,1\n"
_TABLE = pa.Table.from_pylist(EXAMPLE)


def _binary(content: bytes) -> Operation:
    example = {"summary": "The same annotations, shown as base64", "value": base64.b64encode(content).decode()}
    return {"schema": {"type": "string", "format": "binary"}, "examples": {"three": example}}


def _text(content: str) -> Operation:
    return {"schema": {"type": "string"}, "examples": {"three": {"value": content}}}


ANNOTATIONS_BODY: Operation = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": schema(list[AnnotationRequest]), "examples": {"three": {"value": EXAMPLE}}},
            CSV: _text(EXAMPLE_CSV),
            TSV: _text(EXAMPLE_CSV.replace(",", "\t")),
            PARQUET: _binary(parquet_bytes(_TABLE)),
            ARROW_FILE: _binary(arrow_bytes(_TABLE, pa.ipc.new_file)),
            ARROW: _binary(arrow_bytes(_TABLE, pa.ipc.new_stream)),
        },
    }
}
