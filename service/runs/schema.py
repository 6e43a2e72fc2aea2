"""The columns of a stored row: an example in one epoch, with one class or with many elements."""

from __future__ import annotations

import pyarrow as pa

from service.schema.structure import Task

SCORES = ("log_odds", "logit_margin", "normalized_margin", "entropy", "el2n")
_PLACE = [
    pa.field("epoch", pa.int32(), nullable=False),
    pa.field("batch", pa.string(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("id", pa.string(), nullable=False),
]
SCHEMA = pa.schema(
    [
        *_PLACE,
        pa.field("target", pa.int32(), nullable=False),
        pa.field("prediction", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in SCORES),
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("attributes", pa.string()),
    ]
)

_INTEGERS, _FLOATS = pa.list_(pa.int32()), pa.list_(pa.float32())
# An example with many elements, whose targets have the axes `shape`; -1 is an ignored target. The unit number n is the
# elements `unit_elements[unit_offsets[n] : unit_offsets[n + 1]]` of the flat targets. The elements of a mask that was
# sent as a histogram stand for `element_counts` elements each, and have no predictions (-1) and units. The logits of an
# example of tokens are (T, C), those of a mask (C, d1, ...), both flat.
ELEMENT_SCHEMA = pa.schema(
    [
        *_PLACE,
        pa.field("num_valid", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in (*SCORES, "label_quality")),
        pa.field("shape", _INTEGERS, nullable=False),
        pa.field("targets", _INTEGERS, nullable=False),
        pa.field("predictions", _INTEGERS, nullable=False),
        pa.field("element_log_odds", _FLOATS, nullable=False),
        pa.field("element_counts", _INTEGERS),
        pa.field("unit_offsets", _INTEGERS, nullable=False),
        pa.field("unit_elements", _INTEGERS, nullable=False),
        pa.field("unit_given", _INTEGERS, nullable=False),
        pa.field("unit_suggested", _INTEGERS, nullable=False),
        pa.field("unit_suggested_p", _FLOATS, nullable=False),
        pa.field("unit_start", _INTEGERS, nullable=False),
        pa.field("unit_stop", _INTEGERS, nullable=False),
        pa.field("element_logits", _FLOATS),
        pa.field("attributes", pa.string()),
    ]
)
SCHEMAS = (SCHEMA, ELEMENT_SCHEMA)


def schema_of(task: Task) -> pa.Schema:
    """The columns of the rows of a run with this task."""
    return SCHEMA if task == "classification" else ELEMENT_SCHEMA
