"""Latency of small requests while large ones run: `python -m tests.bounds.latency --seconds 10` prints a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np

from service.api.http.tensor_docs import SAFETENSORS
from service.formats.safetensors import write_safetensors
from tests.bounds.measuring import send
from tests.bounds.stored_runs import store_runs
from tests.bounds.worst_request import MB, NEW, WorstRequest, json_request
from tests.live.server_process import running_server

QUIET, LOUD = "quiet", "loud"
SMALL_PAUSE_S = 0.02
SMALL = {"logits": [[0.1 * column for column in range(10)]] * 64, "targets": [1] * 64}
SENDERS = 2


class Latencies:
    """Sends a small request again and again on one connection, and keeps its latencies by phase.

    Args:
        url: Base URL of the service.
        path: Path of the request; a `POST` with a body of 64 rows, or `/healthz`.
    """

    def __init__(self, url: str, path: str) -> None:
        self._url, self._path = url, path
        self._done = Event()
        self._thread = Thread(target=self._ask, daemon=True)
        self.phase = QUIET
        self.seconds: dict[str, list[float]] = {QUIET: [], LOUD: []}
        self.failures = 0
        self._thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, verify=False) as client:
            while not self._done.wait(SMALL_PAUSE_S):
                start = time.perf_counter()
                try:
                    reply = client.get(self._path) if self._path == "/healthz" else client.post(self._path, json=SMALL)
                    self.failures += not reply.is_success
                except httpx.TransportError:
                    self.failures += 1
                self.seconds[self.phase].append(time.perf_counter() - start)

    def milliseconds(self) -> list[float]:
        """The p50 of the quiet and the loud phases, then their p99."""
        phases = [self.seconds[phase] or [0.0] for phase in (QUIET, LOUD)]
        return [1000 * float(np.percentile(seconds, percent)) for percent in (50, 99) for seconds in phases]

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def large_requests() -> Mapping[str, Callable[[int], WorstRequest]]:
    """Kinds of large requests; the number makes the question of each one new, so that no cached answer serves it."""
    rows = {"logits": [[0.5, 0.25]] * 400_000, "targets": [0] * 400_000}
    json_rows = json_request("POST", "", "/loss", rows)
    tensors = {"logits": np.zeros((160_000, 100), np.float32), "targets": np.zeros(160_000, np.int64)}
    binary = WorstRequest("POST", "", "/loss", write_safetensors(tensors, {}), {"Content-Type": SAFETENSORS})
    batch = {"logits": [[0.5, 0.25, 0.1]] * 100_000, "targets": [0] * 100_000, "ids": list(range(100_000))}
    stored = json_request("PUT", "", f"/runs/rows/epochs/9/batches/{NEW}", batch)
    tasks = {"tasks": [{"data": {"external_id": str(number)}} for number in range(10_000)]}
    predict = json_request("POST", "", "/runs/rows/label-studio/predict", tasks)
    return {
        "nothing": lambda number: WorstRequest("GET", "", ""),
        f"`POST /loss`, JSON of {len(json_rows.body) / MB:.0f} MB": lambda number: json_rows,
        f"`POST /loss`, safetensors of {len(binary.body) / MB:.0f} MB": lambda number: binary,
        f"batches of a run, JSON of {len(stored.body) / MB:.0f} MB": lambda number: stored,
        "diagnostics of 33 000 rows": lambda number: WorstRequest(
            "GET", "", f"/runs/rows/diagnostics?gamma=1.{number}"
        ),
        "pages of 33 000 rows": lambda number: WorstRequest("GET", "", "/runs/rows/examples?limit=100000"),
        "predictions of 10 000 tasks": lambda number: predict,
    }


def send_large(url: str, kind: str, seconds: float, sender: int) -> int:
    """Send large requests of a kind one after another, and count them; for a process of its own."""
    make, sent, end = large_requests()[kind], 0, time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60, verify=False) as client:
        while time.monotonic() < end:
            if kind == "nothing":
                time.sleep(0.1)
                continue
            with suppress(httpx.TransportError):
                sent += send(client, make(sender * 10_000 + sent), f"b{sender}-{sent}").is_success
    return sent


def rows(url: str, seconds: float) -> Iterator[str]:
    """Yield a row of the table for each kind of large requests."""
    with ProcessPoolExecutor(SENDERS, get_context("spawn")) as pool:
        for kind in large_requests():
            probe = Latencies(url, "/loss")
            # Half of the quiet time before, half after: the load of the machine varies.
            time.sleep(seconds / 2)
            senders = [pool.submit(send_large, url, kind, seconds, number) for number in range(SENDERS)]
            probe.phase = LOUD
            sent = sum(sender.result() for sender in senders)
            probe.phase = QUIET
            time.sleep(seconds / 2)
            probe.close()
            values = probe.milliseconds()
            shown = " | ".join(f"{value:.1f}" for value in values)
            ratios = f"{values[1] / values[0]:.1f} | {values[3] / values[2]:.1f}"
            yield f"| {kind} | {sent} | {shown} | {ratios} | {probe.failures} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind")
    seconds = parser.parse_args().seconds
    names = ("large requests of two clients", "sent", "p50 without, ms", "p50 with", "p99 without", "p99 with")
    names += ("ratio of p50", "of p99", "failed")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder), processes="2") as server:
        with httpx.Client(base_url=server.url, timeout=60, verify=False) as client:
            store_runs(client, 2 * MB)
        for row in rows(server.url, seconds):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
