"""A run of a million examples, ten classes and five epochs: time of its requests, and memory of the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save

from benchmarks.bodies import SAFETENSORS
from benchmarks.contenders import OURS
from benchmarks.row import Row, divide
from benchmarks.run_requests import memory_row, put_batch, request_row, seconds

EXAMPLES, CLASSES, EPOCHS, ROWS_PER_BATCH, REPEATS = 1_000_000, 10, 5, 62_500, 5
MIN_SHARE = 0.5


def run(folder: Path) -> Iterator[Row]:
    """Yield rows for ingestion against `/loss`, for examples, queues, diagnostics and dynamics, and for memory."""
    data = folder / "runs"
    with (
        OURS.running(folder, data_dir=data) as process,
        httpx.Client(base_url=process.url, timeout=300) as client,
    ):
        before = process.memory_bytes()
        process.reset_peak()
        yield _ingest(client)
        yield from _requests(client)
        growth = process.peak_bytes() - before
    yield memory_row("growth of the server's memory over all of that", growth, data)


def _ingest(client: httpx.Client) -> Row:
    """Send each batch to the run and to `/loss`. The row has a ratio for each epoch."""
    client.put("/runs/r", json={"config": {"gamma": 2.0}}).raise_for_status()
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, EXAMPLES)
    stored_s, stateless_s = [0.0] * EPOCHS, [0.0] * EPOCHS
    for epoch in range(EPOCHS):
        for number in range(EXAMPLES // ROWS_PER_BATCH):
            rows = slice(number * ROWS_PER_BATCH, (number + 1) * ROWS_PER_BATCH)
            body = _body(rng, targets[rows], rows, epoch)
            stored_s[epoch] += seconds(lambda: put_batch(client, f"/runs/r/epochs/{epoch}/batches/{number}", body))  # noqa: B023
            stateless_s[epoch] += seconds(lambda: _post(client, body))  # noqa: B023
    return Row(
        f"{EXAMPLES * EPOCHS} rows x {CLASSES} into a run, durable, against the same on /loss",
        f"{EXAMPLES * EPOCHS / sum(stored_s) / 1e6:.2f} M rows/s",
        f"{EXAMPLES * EPOCHS / sum(stateless_s) / 1e6:.2f} M rows/s",
        divide(stateless_s, stored_s),
        at_least=MIN_SHARE,
    )


def _body(rng: np.random.Generator, targets: np.ndarray[Any, Any], rows: slice, epoch: int) -> bytes:
    logits = rng.standard_normal((len(targets), CLASSES)).astype(np.float32)
    logits[np.arange(len(targets)), targets] += epoch
    # One label in twenty is wrong.
    labels = np.where(rng.random(len(targets)) < 0.05, (targets + 1) % CLASSES, targets)
    ids = [f"example-{row}" for row in range(rows.start, rows.stop)]
    return bytes(save({"logits": logits, "targets": labels}, {"request": json.dumps({"ids": ids})}))


def _post(client: httpx.Client, body: bytes) -> None:
    client.post("/loss", content=body, headers={"Content-Type": SAFETENSORS}).raise_for_status()


def _requests(client: httpx.Client) -> list[Row]:
    def get(path: str) -> Callable[[], None]:
        return lambda: _check(client.get(f"/runs/r/{path}"))

    # The service caches the diagnostics of a run, so each request has another gamma.
    gammas = iter(range(1, REPEATS + 1))

    def diagnose() -> None:
        _check(client.get("/runs/r/diagnostics", params={"gamma": next(gammas) + 0.5}))

    def queue(strategy: str, **more: Any) -> Callable[[], None]:
        return lambda: _check(client.post("/runs/r/queues", json={"strategy": strategy, "budget": 50} | more))

    requests = [
        ("a page of 100 examples, the largest loss first", get("examples")),
        ("a filtered page under another gamma", get("examples?target=3&sort=entropy&gamma=0.5")),
        ("one example with its percentiles and course", get("examples/example-4711")),
        ("a queue of 50 by logit_margin", queue("logit_margin")),
        ("a queue of 50 by area_under_margin", queue("area_under_margin")),
        ("a queue of 50 by suspected_errors", queue("suspected_errors")),
        ("a queue of 50 by top_loss, equal classes", queue("top_loss", per_class="equal")),
        ("diagnostics", diagnose),
        ("dynamics over five epochs", get("dynamics")),
    ]
    size = f"{EXAMPLES} x {CLASSES} x {EPOCHS} epochs"
    return [request_row(f"{size}: {what}", request, REPEATS) for what, request in requests]


def _check(response: httpx.Response) -> None:
    response.raise_for_status()
