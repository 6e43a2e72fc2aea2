"""An Arrow stream of up to ten million rows: rate, growth of the server's memory, and time per row."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.contenders import OURS
from benchmarks.process import Process
from benchmarks.row import Row, divide
from tests.contract.arrow_client import duplex, ipc_pieces, read_batches

# Rows of a stream, and how often it is sent in a round. A stream of one row, sent before each, measures the fixed cost
# of a request; the median of the differences counts.
REPEATS = {1_000: 100, 100_000: 10, 10_000_000: 1}
ROWS_PER_BATCH, CLASSES, ROUNDS = 50_000, 10, 3
MAX_GROWTH, MAX_SLOWDOWN = 0.4, 1.25


def run(folder: Path) -> Iterator[Row]:
    """Measure memory and rate of the longest stream, and the time per row against shorter streams."""
    longest = max(REPEATS)
    with OURS.running(folder) as process:
        _send_stream(process, ROWS_PER_BATCH)
        before = process.memory_bytes()
        process.reset_peak()
        rounds = [{rows: _seconds(process, rows, repeats) for rows, repeats in REPEATS.items()} for _ in range(ROUNDS)]
        growth = process.peak_bytes() - before
    sent = longest * (CLASSES * 4 + 8)
    yield Row(
        f"Arrow stream of {longest} rows x {CLASSES}, growth of the server's memory over the stream's bytes",
        f"{growth / 1e6:.0f} MB",
        f"{sent / 1e6:.0f} MB",
        [growth / sent],
        at_most=MAX_GROWTH,
    )
    rates = [longest / seconds[longest] / 1e6 for seconds in rounds]
    yield Row("the same stream, rate", f"{statistics.median(rates):.2f} M rows/s")
    per_row = {rows: [seconds[rows] / (rows - 1) for seconds in rounds] for rows in REPEATS}
    for shorter, longer in itertools.pairwise(REPEATS):
        yield Row(
            f"Arrow stream, time a row beyond the fixed cost, {longer} rows over {shorter}",
            _nanoseconds(per_row[longer]),
            _nanoseconds(per_row[shorter]),
            divide(per_row[longer], per_row[shorter]),
            at_most=MAX_SLOWDOWN,
        )


def _nanoseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e9:.0f} ns"


def _seconds(process: Process, rows: int, repeats: int) -> float:
    """Return the median seconds of a stream, less those of a stream of one row."""
    return statistics.median(_send_stream(process, rows) - _send_stream(process, 1) for _ in range(repeats))


def _send_stream(process: Process, rows: int) -> float:
    """Send a stream while reading its reply. Returns the seconds from the first byte to the last."""
    size = min(rows, ROWS_PER_BATCH)
    rng = np.random.default_rng(0)
    logits = pa.array(rng.standard_normal(size * CLASSES, dtype=np.float32))
    batch = pa.record_batch(
        {
            "logits": pa.FixedSizeListArray.from_arrays(logits, CLASSES),
            "targets": pa.array(rng.integers(0, CLASSES, size)),
        }
    )
    schema, batch_bytes, end = ipc_pieces(batch.schema, [batch])

    def pieces() -> Iterator[bytes]:
        yield schema
        for _ in range(rows // size):
            yield batch_bytes
        yield end

    started = time.perf_counter()
    with duplex(process, pieces()) as response:
        received = sum(len(batch) for batch, _ in read_batches(response))
    elapsed = time.perf_counter() - started
    assert received == rows, f"the reply has {received} of {rows} rows"
    return elapsed
