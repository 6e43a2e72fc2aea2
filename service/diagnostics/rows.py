"""The logits of an epoch of a run, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Chunk, Chunks
from service.queries.view import View

# The computations on a chunk take up to ten times its memory, since they are in float64.
CHUNK_LOGITS = 2**19
COLUMNS = ["batch", "row", "target", "logits"]


def chunks_of(view: View, epoch: int) -> Chunks:
    """Targets and logits of an epoch; each call starts another pass."""
    return lambda: (chunk for _, chunk in placed_chunks(view, epoch))


def placed_chunks(view: View, epoch: int) -> Iterator[tuple[pa.RecordBatch, Chunk]]:
    """Chunks of an epoch, each with the Arrow columns `batch` and `row`, which locate its rows in the epoch."""
    for rows in view.stored_batches(epoch, COLUMNS, CHUNK_LOGITS):
        if len(rows):
            targets = rows.column("target").to_numpy().astype(np.int64)
            yield rows, Chunk(targets, rows.column("logits").flatten().to_numpy().reshape(len(targets), -1))
