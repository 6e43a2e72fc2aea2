"""Large runs of masks and of several labels, sent as statistics: time of their requests, and memory of the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from benchmarks.contenders import OURS
from benchmarks.row import Row
from benchmarks.run_requests import memory_row, put_batch, request_row, seconds, stored_bytes
from service.schema.structure import LAYOUT_OF, Task

MASKS, SIZE, CLASSES = 100_000, 32, 4
ROWS, LABELS = 1_000_000, 50
ELEMENTS_PER_BATCH, WRONG = 5_000_000, 0.02
REPEATS = 3
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Data:
    """The examples of a run.

    Args:
        task: Task of the run.
        config: Its configuration.
        what: Description of the examples, after their number.
        num_examples: Number of examples.
        num_elements: Elements of each.
        draw: Draws `log_odds` and `targets`, and `prediction` if needed, of a number of examples.
    """

    task: Task
    config: Mapping[str, object]
    what: str
    num_examples: int
    num_elements: int
    draw: Callable[[np.random.Generator, int], Tensors]

    def bodies(self) -> Iterator[bytes]:
        """Write the batches as safetensors."""
        rng, rows = np.random.default_rng(0), max(1, ELEMENTS_PER_BATCH // self.num_elements)
        for first in range(0, self.num_examples, rows):
            count = min(rows, self.num_examples - first)
            request: dict[str, Any] = {"layout": LAYOUT_OF[self.task]}
            request["ids"] = [f"example-{row}" for row in range(first, first + count)]
            if self.task == "masks":
                request["num_classes"] = CLASSES
            yield save(self.draw(rng, count), {"request": json.dumps(request)})


def draw_masks(rng: np.random.Generator, count: int) -> Tensors:
    """Draw a rectangle of class 1, 2 or 3 on each mask, of which some lack it, and predictions that miss some edges."""
    axis = np.arange(SIZE)
    top, left = rng.integers(0, SIZE // 2, (2, count, 1))
    height, width = rng.integers(4, SIZE // 2, (2, count, 1))
    rows, columns = (axis >= top) & (axis < top + height), (axis >= left) & (axis < left + width)
    true = rng.integers(1, CLASSES, (count, 1, 1), dtype=np.uint8) * (rows[:, :, None] & columns[:, None, :])
    # A prediction is shifted by at most one pixel, in a tenth of the images.
    prediction = np.where(rng.random((count, 1, 1)) < 0.1, np.roll(true, 1, 1), true)
    targets = np.where(rng.random((count, 1, 1)) < WRONG, np.uint8(0), true)
    size = rng.gamma(4.0, 1.0, true.shape).astype(np.float32)
    return {
        "log_odds": np.where(prediction == targets, size, -size),
        "prediction": prediction,
        "targets": targets,
    }


def draw_labels(rng: np.random.Generator, count: int) -> Tensors:
    """Draw labels of which 3 in 50 are positive, and log-odds that contradict some."""
    targets = (rng.random((count, LABELS), np.float32) < 0.06).astype(np.uint8)
    size = rng.standard_gamma(4.0, targets.shape, np.float32)
    return {"log_odds": np.where(rng.random(targets.shape, np.float32) < WRONG, -size, size), "targets": targets}


def run(folder: Path) -> Iterator[Row]:
    """Yield the rows of both runs, each in a new service."""
    softmax, sigmoid = {"gamma": 2.0}, {"gamma": 2.0, "mode": "sigmoid"}
    masks = Data("masks", softmax, f"masks {SIZE} x {SIZE}, {CLASSES} classes", MASKS, SIZE**2, draw_masks)
    labels = Data("multi_label", sigmoid, f"rows x {LABELS} labels", ROWS, LABELS, draw_labels)
    for data in (masks, labels):
        yield from _run(folder, data)


def _run(folder: Path, data: Data) -> Iterator[Row]:
    stored, name = folder / data.task, f"{data.num_examples} {data.what}"
    with (
        OURS.running(folder, data_dir=stored) as process,
        httpx.Client(base_url=process.url, timeout=300) as client,
    ):
        before = process.memory_bytes()
        process.reset_peak()
        client.put("/runs/r", json={"task": data.task, "config": data.config}).raise_for_status()
        elapsed = sum(
            seconds(lambda: put_batch(client, f"/runs/r/epochs/0/batches/{number}", body))  # noqa: B023
            for number, body in enumerate(data.bodies())
        )
        elements = data.num_examples * data.num_elements
        yield Row(
            f"{name}: statistics into a run, durable; bytes on the disk",
            f"{data.num_examples / elapsed / 1e3:.3g} k rows/s, {elements / elapsed / 1e6:.3g} M elements/s",
            f"{stored_bytes(stored) / elements:.2f} B an element",
        )
        yield memory_row(f"{name}: growth of the server's memory over that", process.peak_bytes() - before, stored)
        process.reset_peak()
        for what, request, repeats in _requests(client, data.num_examples):
            yield request_row(f"{name}: {what}", request, repeats)
        growth = process.peak_bytes() - before
        yield memory_row(f"{name}: growth of the server's memory over the queries", growth, stored)


def _requests(client: httpx.Client, num_examples: int) -> Iterator[tuple[str, Callable[[], object], int]]:
    gammas = iter(range(100))

    def get(path: str) -> None:
        client.get(f"/runs/r/{path}").raise_for_status()

    def queue(strategy: str, **members: Any) -> None:
        body = {"strategy": strategy, "budget": 50, **members}
        client.post("/runs/r/queues", json=body).raise_for_status()

    yield "the first queue of 50 units by top_loss", lambda: queue("top_loss"), 1
    yield "another queue of 50 units by top_loss", lambda: queue("top_loss", at_most={"count": 3}), REPEATS
    yield "a queue of 50 units by self_confidence", lambda: queue("self_confidence"), REPEATS
    yield "a queue of 50 examples by label_quality", lambda: queue("label_quality"), REPEATS
    yield "a page of 100 examples, the largest loss first", lambda: get("examples"), REPEATS
    yield "that page under another gamma", lambda: get(f"examples?gamma={next(gammas) + 0.5}"), REPEATS
    yield "one example with its units", lambda: get(f"examples/example-{num_examples - 1}"), REPEATS
    yield "the first diagnostics", lambda: get("diagnostics"), 1
    yield "diagnostics under another gamma", lambda: get(f"diagnostics?gamma={next(gammas) + 0.25}"), REPEATS
