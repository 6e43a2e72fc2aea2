"""A stream of ten million rows through a service process: rate, and how much its memory grows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.memory import PeakMemory
from benchmarks.row import Row
from tests.live.arrow_client import duplex, ipc_pieces, read_batches
from tests.live.server_process import ServerProcess, running_server

ROWS, ROWS_PER_BATCH, CLASSES = 10_000_000, 50_000, 10
MAX_GROWTH_MB = 200


def run() -> list[Row]:
    """One row for the memory, with its bar, and one for the rate."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        pass_through(server, ROWS_PER_BATCH)
        before = server.memory_bytes()
        watcher = PeakMemory(server)
        started = time.perf_counter()
        with watcher:
            pass_through(server, ROWS)
        elapsed = time.perf_counter() - started
        growth = (watcher.peak - before) / 1e6
    sent = ROWS * (CLASSES * 4 + 8) / 1e6
    return [
        Row(
            what=f"Arrow stream of {ROWS} rows x {CLASSES} ({sent:.0f} MB), growth of the server's memory",
            ours=f"{growth:.0f} MB",
            bar=f"< {MAX_GROWTH_MB} MB",
            met=growth < MAX_GROWTH_MB,
        ),
        Row(what="the same stream, rate", ours=f"{ROWS / elapsed / 1e6:.2f} M rows/s"),
    ]


def pass_through(server: ServerProcess, rows: int) -> None:
    """Send that many rows and read all of the answer meanwhile."""
    rng = np.random.default_rng(0)
    logits = pa.array(rng.standard_normal(ROWS_PER_BATCH * CLASSES).astype(np.float32))
    batch = pa.record_batch(
        {
            "logits": pa.FixedSizeListArray.from_arrays(logits, CLASSES),
            "targets": pa.array(rng.integers(0, CLASSES, ROWS_PER_BATCH)),
        }
    )

    def pieces() -> Iterator[bytes]:
        head, part, end = ipc_pieces(batch.schema, [batch])
        yield head
        for _ in range(rows // ROWS_PER_BATCH):
            yield part
        yield end

    with duplex(server, pieces()) as response:
        answered = sum(len(part) for part, _ in read_batches(response))
    assert answered == rows, f"{answered} of {rows} rows were answered"
