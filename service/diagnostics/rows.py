"""The logits of a run's epoch, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Chunk, Chunks
from service.runs.queries import View

CHUNK_ROWS = 65_536


def chunks_of(view: View, epoch: int) -> Chunks:
    """Targets and logits of the rows of an epoch, as often as they are asked for."""
    return lambda: (chunk for _, chunk in placed_chunks(view, epoch))


def placed_chunks(view: View, epoch: int) -> Iterator[tuple[pa.RecordBatch, Chunk]]:
    """The same with the columns `batch` and `row`, which say where in the epoch each row stands."""
    for rows in view.reader(f"SELECT batch, row, target, logits FROM {view.stored(epoch)}", rows=CHUNK_ROWS):
        if len(rows):
            targets = rows.column("target").to_numpy().astype(np.int64)
            yield rows, Chunk(targets, rows.column("logits").flatten().to_numpy().reshape(len(targets), -1))
