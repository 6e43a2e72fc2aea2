"""Requests about a run, timed, and the memory that they take in the server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.bodies import SAFETENSORS
from benchmarks.row import Row
from service.settings import Settings

MAX_GROWTH = 1.5


def put_batch(client: httpx.Client, path: str, body: bytes) -> None:
    """Store a batch of safetensors."""
    client.put(path, content=body, headers={"Content-Type": SAFETENSORS}).raise_for_status()


def seconds(request: Callable[[], object]) -> float:
    """Return the duration of a request."""
    started = time.perf_counter()
    request()
    return time.perf_counter() - started


def request_row(what: str, request: Callable[[], object], repeats: int) -> Row:
    """Repeat a request, and return a row with its median, smallest and largest duration."""
    times = [seconds(request) for _ in range(repeats)]
    spread = f" ({min(times):.2f} - {max(times):.2f})" if repeats > 1 else ""
    return Row(what, f"{statistics.median(times):.2f} s{spread}")


def memory_row(what: str, growth: int, data: Path) -> Row:
    """Return a row for the growth of a server's memory over its `query_memory_bytes`."""
    allowed = Settings.model_fields["query_memory_bytes"].default
    return Row(
        f"{what} ({stored_bytes(data) / 1e6:.0f} MB of Parquet), over query_memory_bytes",
        f"{growth / 1e6:.0f} MB",
        f"{allowed / 1e6:.0f} MB",
        [growth / allowed],
        at_most=MAX_GROWTH,
    )


def stored_bytes(data: Path) -> int:
    """Return the size of the Parquet files in a data directory."""
    return sum(path.stat().st_size for path in data.rglob("*.parquet"))
