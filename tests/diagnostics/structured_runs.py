"""Structured runs over HTTP, with elements that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np

from service.schema.structure import LAYOUT_OF, Task

Arrays = Sequence[np.ndarray[Any, Any]]


def create(client: httpx.Client, run: str, task: Task, config: Mapping[str, Any], **description: Any) -> None:
    reply = client.put(f"/runs/{run}", json={"task": task, "config": config, **description})
    assert reply.status_code == 201, reply.text


def put(client: httpx.Client, run: str, logits: Arrays, targets: Arrays, epoch: int = 0, **members: Any) -> None:
    """Put the examples in two batches or more, so that they are in several files; those of a batch of masks have the
    same shape."""
    task = client.get(f"/runs/{run}").json()["task"]
    starts = [0, len(targets) // 2, len(targets)]
    if task == "masks":
        changes = [i for i in range(1, len(targets)) if targets[i].shape != targets[i - 1].shape]
        starts = sorted({*starts, *changes})
    for number, part in enumerate(map(slice, starts, starts[1:])):
        body = {
            "layout": LAYOUT_OF[task],
            "logits": [values.tolist() for values in logits[part]],
            "targets": [values.tolist() for values in targets[part]],
            "ids": [f"e{example:04d}" for example in range(len(targets))][part],
            **{member: {key: rows[part] for key, rows in values.items()} for member, values in members.items()},
        }
        reply = client.put(f"/runs/{run}/epochs/{epoch}/batches/b{number}", json=body)
        assert reply.status_code in {200, 201}, reply.text


def get(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    reply = client.get(path, params=query)
    assert reply.status_code == 200, reply.text
    content: dict[str, Any] = reply.json()
    return content


def diagnostics(client: httpx.Client, run: str, **query: Any) -> dict[str, Any]:
    return get(client, f"/runs/{run}/diagnostics", **query)


def noisy_labels(rows: int, labels: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits (n, L) float32 and targets, of which a tenth is wrong."""
    generator = np.random.default_rng(seed)
    true = generator.random((rows, labels)) < np.linspace(0.2, 0.6, labels)
    logits = np.where(true, 1.5, -1.5) + generator.normal(size=true.shape) * 1.5
    return logits.astype(np.float32), (true ^ (generator.random(true.shape) < 0.1)).astype(np.int64)


def noisy_elements(
    shapes: Sequence[tuple[int, ...]], classes: int, seed: int = 0, ignored: int | None = None
) -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """Logits (..., C) float32 and targets of examples of these shapes, of which a tenth is wrong."""
    generator = np.random.default_rng(seed)
    logits, targets = [], []
    for shape in shapes:
        true = generator.integers(0, classes, shape)
        x = generator.normal(size=(*shape, classes)) * 1.5 + 2.5 * np.eye(classes)[true]
        wrong = generator.random(shape) < 0.1
        given = np.where(wrong, generator.integers(0, classes, shape), true)
        if ignored is not None:
            given = np.where(generator.random(shape) < 0.1, ignored, given)
        logits.append(x.astype(np.float32))
        targets.append(given)
    return logits, targets
