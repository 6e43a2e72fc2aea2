"""The columns of a stored row: an example in one epoch."""

from __future__ import annotations

import pyarrow as pa

SCORES = ("log_odds", "logit_margin", "normalized_margin", "entropy", "el2n")
SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("batch", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),
        pa.field("prediction", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in SCORES),
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("attributes", pa.string()),
    ]
)
