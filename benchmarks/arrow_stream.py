"""An Arrow stream of up to ten million rows: rate, the growth of the server's memory, and the time that a row takes."""

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
from benchmarks.row import Row, over
from tests.contract.arrow_client import duplex, ipc_pieces, read_batches

# Rows of a stream, and how often it is sent in a round, each time after a stream of one row: what that one takes is the
# fixed cost of a request, and the median of the differences counts.
REPEATS = {1_000: 100, 100_000: 10, 10_000_000: 1}
ROWS_PER_BATCH, CLASSES, ROUNDS = 50_000, 10, 3
MOST_GROWTH, MOST_SLOWER = 0.4, 1.25


def run(folder: Path) -> Iterator[Row]:
    """The memory and the rate of the longest stream, and what a row takes in it beside shorter ones."""
    longest = max(REPEATS)
    with OURS.running(folder) as process:
        _pass_through(process, ROWS_PER_BATCH)
        before = process.memory_bytes()
        process.forget_peak()
        rounds = [{rows: _seconds(process, rows, repeats) for rows, repeats in REPEATS.items()} for _ in range(ROUNDS)]
        growth = process.peak_bytes() - before
    sent = longest * (CLASSES * 4 + 8)
    yield Row(
        f"Arrow stream of {longest} rows x {CLASSES}, growth of the server's memory over the stream's bytes",
        f"{growth / 1e6:.0f} MB",
        f"{sent / 1e6:.0f} MB",
        [growth / sent],
        at_most=MOST_GROWTH,
    )
    rates = [longest / each[longest] / 1e6 for each in rounds]
    yield Row("the same stream, rate", f"{statistics.median(rates):.2f} M rows/s")
    per_row = {rows: [each[rows] / (rows - 1) for each in rounds] for rows in REPEATS}
    for shorter, longer in itertools.pairwise(REPEATS):
        yield Row(
            f"Arrow stream, time a row beyond the fixed cost, {longer} rows over {shorter}",
            _nanoseconds(per_row[longer]),
            _nanoseconds(per_row[shorter]),
            over(per_row[longer], per_row[shorter]),
            at_most=MOST_SLOWER,
        )


def _nanoseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e9:.0f} ns"


def _seconds(process: Process, rows: int, repeats: int) -> float:
    """Of a stream of that many rows, beyond those of a stream of one."""
    return statistics.median(_pass_through(process, rows) - _pass_through(process, 1) for _ in range(repeats))


def _pass_through(process: Process, rows: int) -> float:
    """Send that many rows, read all of the answer meanwhile; the seconds from first to last."""
    size = min(rows, ROWS_PER_BATCH)
    rng = np.random.default_rng(0)
    logits = pa.array(rng.standard_normal(size * CLASSES, dtype=np.float32))
    batch = pa.record_batch(
        {
            "logits": pa.FixedSizeListArray.from_arrays(logits, CLASSES),
            "targets": pa.array(rng.integers(0, CLASSES, size)),
        }
    )
    head, part, end = ipc_pieces(batch.schema, [batch])

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(rows // size):
            yield part
        yield end

    started = time.perf_counter()
    with duplex(process, pieces()) as response:
        answered = sum(len(part) for part, _ in read_batches(response))
    elapsed = time.perf_counter() - started
    assert answered == rows, f"{answered} of {rows} rows were answered"
    return elapsed
