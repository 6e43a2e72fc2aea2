"""Runs whose data is as wide, long or scattered as a few requests can make it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import orjson

from service.api.http.tensor_docs import SAFETENSORS
from service.formats.safetensors import write_safetensors

# Names that lead to stored data, by path parameter.
PATHS: Mapping[str, str] = {
    "run": "rows",
    "other": "classes",
    "queue_name": "queue",
    "example_id": "0",
    "epoch": "0",
    "batch": "new-{new}",
    "model": "focal_loss",
    "version": "1",
    "config_id": "unknown",
}
BATCHES, EPOCHS = 100, 20
# Descriptions of runs of structured examples.
TASKS: Mapping[str, Any] = {
    "masks": {"task": "masks"},
    "labels": {"task": "multi_label", "config": {"mode": "sigmoid"}},
    "wide-labels": {"task": "multi_label", "config": {"mode": "sigmoid"}},
}
RUNS = ("rows", "classes", "attributes", "texts", "batches", *TASKS)


def store_runs(client: httpx.Client, size: int, prefix: str = "") -> None:
    """Store the runs of `RUNS`, each of up to about `size` bytes, under their names with a prefix."""
    rng = np.random.default_rng(0)
    rows, classes = size // 60, size // 80
    client.put(f"/runs/{prefix}rows", json={"class_names": ["a", "b", "c"]}).raise_for_status()
    logits, targets = rng.standard_normal((rows, 3)).round(2).tolist(), rng.integers(0, 3, rows).tolist()
    texts = {"text": [f"text {row % 15}" for row in range(rows)], "group": list(range(rows))}
    for epoch in range(3):
        put(
            client,
            prefix + "rows",
            epoch,
            {"logits": logits, "targets": targets, "ids": list(range(rows)), "attributes": texts},
        )
    reviews = [{"id": str(row), "verdict": "wrong", "label": 1} for row in range(min(rows, 10_000))]
    client.post(f"/runs/{prefix}rows/reviews", json=reviews).raise_for_status()
    annotations = "id,annotator,label\n" + "".join(
        f"{row % rows},a{row // rows},{row % 3}\n" for row in range(3 * rows)
    )
    headers = {"Content-Type": "text/csv"}
    client.put(f"/runs/{prefix}rows/annotations", content=annotations, headers=headers).raise_for_status()
    queue = {"strategy": "top_loss", "budget": min(rows, 100_000), "name": "queue", "exclude_reviewed": False}
    client.post(f"/runs/{prefix}rows/queues", json=queue).raise_for_status()

    client.put(f"/runs/{prefix}classes", json={}).raise_for_status()
    wide = write_safetensors(
        {"logits": rng.standard_normal((20, classes)).astype(np.float32), "targets": rng.integers(0, classes, 20)},
        {"request": '{"ids": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]}'},
    )
    headers = {"Content-Type": SAFETENSORS}
    client.put(f"/runs/{prefix}classes/epochs/0/batches/b", content=wide, headers=headers).raise_for_status()

    small = {"logits": [[0.5, 0.1], [0.2, 0.3]], "targets": [0, 1], "ids": [0, 1]}
    for name, attributes in (
        ("attributes", {f"a{number}": ["x", "y"] for number in range(min(size // 20, 5_000))}),
        ("texts", {"text": ["x" * (size // 4), "\x1b" * (size // 24)]}),
    ):
        client.put(f"/runs/{prefix}{name}", json={}).raise_for_status()
        reply = client.put(f"/runs/{prefix}{name}/epochs/0/batches/b", json=small | {"attributes": attributes})
        if not reply.is_success:  # a bound of the service
            put(client, prefix + name, 0, small)

    for name, description in TASKS.items():
        client.put(f"/runs/{prefix}{name}", json=description).raise_for_status()
        for kind, body in structured_batches(name, size):
            path = f"/runs/{prefix}{name}/epochs/0/batches/{kind.split()[0]}"
            client.put(path, content=body, headers=headers).raise_for_status()

    client.put(f"/runs/{prefix}batches", json={}).raise_for_status()
    for number in range(BATCHES):
        put(client, prefix + "batches", number % EPOCHS, small | {"ids": [2 * number, 2 * number + 1]}, f"b{number}")


def put(client: httpx.Client, run: str, epoch: int, batch: Mapping[str, Any], name: str = "b") -> None:
    client.put(f"/runs/{run}/epochs/{epoch}/batches/{name}", json=batch).raise_for_status()


def structured_batches(run: str, size: int) -> Iterator[tuple[str, bytes]]:
    """Batches of about `size` bytes for a run of TASKS, by name: thin elements, of which many are wrong."""
    options: dict[str, Any] = {"layout": "dense", "num_classes": 2} if run == "masks" else {}
    for name, shape in _shapes(run, size).items():
        rng = np.random.default_rng(0)
        targets = (np.indices(shape)[1:].sum(axis=0) % 2).astype(np.uint8)
        tensors: dict[str, Any] = {"targets": targets, "log_odds": rng.standard_normal(shape).astype(np.float32)}
        if run == "masks":
            # Every second pixel is a region of its own.
            tensors["prediction"] = np.zeros(shape, np.uint8)
        ids = [f"{name} {number}" for number in range(shape[0])]
        yield name, write_safetensors(tensors, {"request": orjson.dumps(options | {"ids": ids}).decode()})


def _shapes(run: str, size: int) -> dict[str, tuple[int, ...]]:
    if run != "masks":
        return {"rows": (max(1, size // 30), 2) if run == "labels" else (2, max(1, size // 10))}
    side = max(2, int((size / 6) ** 0.5))
    return {"one mask": (1, side, side), "small masks": (max(1, size // 200), 3, 3)}
