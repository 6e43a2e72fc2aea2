"""`POST /loss` over HTTP, in JSON and safetensors: requests and bytes per second.

Threads of this process send the load with httpx, because a GPU machine has no wrk. They use processor time too: the
figures are a lower bound for the service.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bodies import JSON, SAFETENSORS, Batch, Body, write
from benchmarks.contenders import OURS
from benchmarks.process import Process

CASES = (
    (JSON, 64, 10),
    (SAFETENSORS, 64, 10),
    (JSON, 4_096, 100),
    (SAFETENSORS, 4_096, 100),
    (SAFETENSORS, 65_536, 1_000),
)
QUICK_CASES = ((JSON, 8, 3), (SAFETENSORS, 8, 3))
CLIENTS, SECONDS, QUICK_SECONDS = 4, 5.0, 0.5
REQUEST_TIMEOUT_S = 60.0


def figures(device: str, folder: Path, *, quick: bool = False) -> dict[str, Any]:
    """Start a service on the device and measure it.

    Args:
        device: `cuda`, `cuda:N` or `cpu`.
        folder: Folder for bodies, data and log of the service.
        quick: Use small bodies and short rounds, to test the benchmark itself.

    Returns:
        `readiness` as the service reports it, its `warnings`, and `rows`.

    Raises:
        StartError: The service did not start, or its replies are wrong.
        httpx.HTTPError: A request failed.
    """
    with OURS.running(folder, device=device, log_format="json") as process:
        readiness = httpx.get(f"{process.url}/readyz").json()
        rows = list(_rows(process, folder, quick))
        warnings = [line for line in process.log.read_text().splitlines() if _is_warning(line)]
    return {"readiness": readiness, "warnings": warnings, "rows": rows}


def _rows(process: Process, folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    seconds = QUICK_SECONDS if quick else SECONDS
    for media_type, rows, classes in QUICK_CASES if quick else CASES:
        batch = Batch.random(rows, classes)
        if fault := OURS.fault(process, batch, media_type, folder):
            raise ValueError(f"{media_type} {rows} x {classes}: {fault}")
        yield {
            "format": "JSON" if media_type == JSON else "safetensors",
            "rows": rows,
            "classes": classes,
            "clients": CLIENTS,
        } | _load(process.url, write(batch, media_type, folder), seconds)


def _load(url: str, body: Body, seconds: float) -> dict[str, Any]:
    content = body.path.read_bytes()
    started = time.perf_counter()
    until = started + seconds
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(_post_until, url, content, dict(body.headers), until) for _ in range(CLIENTS)]
        times = [seconds for client in clients for seconds in client.result()]
    elapsed = time.perf_counter() - started
    return {
        "body_bytes": len(content),
        "requests": len(times),
        "requests_s": len(times) / elapsed,
        "gb_s": len(times) * len(content) / elapsed / 1e9,
        "p50_ms": statistics.median(times) * 1e3,
    }


def _post_until(url: str, content: bytes, headers: dict[str, str], until: float) -> list[float]:
    """Send requests until a time, at least one. Returns the seconds of each."""
    times: list[float] = []
    with httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S) as client:
        while not times or time.perf_counter() < until:
            started = time.perf_counter()
            client.post("/loss", content=content, headers=headers).raise_for_status()
            times.append(time.perf_counter() - started)
    return times


def _is_warning(line: str) -> bool:
    try:
        return json.loads(line)["level"] in ("warning", "error")
    except (ValueError, KeyError, TypeError):
        return bool(line.strip())
