"""The logits of an epoch of a run, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Chunk, Chunks
from service.runs.queries import View

CHUNK_ROWS = 65_536
# The computations on a chunk need several times its memory, in float64.
CHUNK_LOGITS = 2**21


def chunks_of(view: View, epoch: int) -> Chunks:
    """Targets and logits of an epoch; each call starts another pass."""
    return lambda: (chunk for _, chunk in placed_chunks(view, epoch))


def placed_chunks(view: View, epoch: int) -> Iterator[tuple[pa.RecordBatch, Chunk]]:
    """Chunks of an epoch, each with the Arrow columns `batch` and `row`, which locate its rows in the epoch."""
    size = max(1, min(CHUNK_ROWS, CHUNK_LOGITS // (view.snapshot.num_classes or 2)))
    for batch in view.batches(f"SELECT batch, row, target, logits FROM {view.stored(epoch)}", rows=size):
        # DuckDB's batches have at least 2048 rows.
        for first in range(0, len(batch), size):
            view.check()
            rows = batch.slice(first, size)
            targets = rows.column("target").to_numpy().astype(np.int64)
            yield rows, Chunk(targets, rows.column("logits").flatten().to_numpy().reshape(len(targets), -1))
