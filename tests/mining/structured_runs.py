"""Runs of labels, tokens and masks with some wrong targets, and their units, found without code of the service.

Units of masks come from `scipy.ndimage.label`, losses from the paper's formula in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import httpx
import numpy as np
from scipy.ndimage import find_objects, label

from service.schema.structure import LAYOUT_OF, Task

TASKS: tuple[Task, ...] = ("multi_label", "tokens", "masks")
NAMES: dict[Task, list[str]] = {
    "multi_label": ["beach", "city", "dog", "night", "snow"],
    "tokens": ["O", "PER", "ORG", "LOC"],
    "masks": ["background", "road", "car"],
}
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Example:
    """An example: `logits` (L,), (T, C) or (C, H, W); `targets` (L,), (T,) or (H, W), -100 where ignored."""

    id: str
    logits: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """The examples of a run.

    Args:
        task: Its task.
        examples: Its examples.
    """

    task: Task
    examples: Sequence[Example]

    @classmethod
    def of(cls, task: Task, number: int = 40, seed: int = 0) -> Data:
        """Examples of which about a tenth of the targets is wrong, and some are ignored."""
        rng = np.random.default_rng(seed)
        return cls(task, [_example(task, f"e{index:03d}", rng) for index in range(number)])

    def put(self, client: httpx.Client, run: str, epoch: int = 0, **description: Any) -> None:
        """Create the run and store the examples in two batches."""
        mode = "sigmoid" if self.task == "multi_label" else "softmax"
        config = {"mode": mode, "gamma": 2.0, "ignore_index": -100} | description.pop("config", {})
        body = {"task": self.task, "class_names": NAMES[self.task], "config": config} | description
        client.put(f"/runs/{run}", json=body).raise_for_status()
        half = len(self.examples) // 2
        for name, part in (("a", self.examples[:half]), ("b", self.examples[half:])):
            batch = {
                "layout": LAYOUT_OF[self.task],
                "logits": [example.logits.tolist() for example in part],
                "targets": [example.targets.tolist() for example in part],
                "ids": [example.id for example in part],
                "attributes": {"group": [int(example.id[1:]) % 4 for example in part]},
            }
            reply = client.put(f"/runs/{run}/epochs/{epoch}/batches/{name}", json=batch)
            assert reply.status_code == 201, reply.text

    def log_odds(self, example: Example) -> np.ndarray:
        """log(p_t / (1 - p_t)) of the elements, flat."""
        x = example.logits.astype(np.float64)
        targets = np.maximum(example.targets, 0)
        if self.task == "multi_label":
            return np.asarray((2 * targets - 1) * x)
        x = x.reshape(len(x), -1).T if self.task == "masks" else x
        given = np.arange(x.shape[1]) == targets.reshape(-1, 1)
        of_target = x[given]
        others = np.where(given, -np.inf, x)
        return np.asarray(of_target - np.logaddexp.reduce(others, axis=1))

    def predictions(self, example: Example) -> np.ndarray:
        """The predicted classes, of the shape of the targets."""
        if self.task == "multi_label":
            return np.asarray((example.logits > 0).astype(int))
        return np.asarray(example.logits.argmax(axis=0 if self.task == "masks" else 1))

    def units(self, gamma: float = 2.0) -> list[Row]:
        """The units of all examples, largest loss first."""
        units = [unit for example in self.examples for unit in self._units(example, gamma)]
        return sorted(units, key=lambda unit: (-unit["loss"], unit["id"], unit["number"]))

    def _units(self, example: Example, gamma: float) -> Iterator[Row]:
        z, predictions = self.log_odds(example), self.predictions(example)
        losses = np.exp(-gamma * np.logaddexp(0, z)) * np.logaddexp(0, -z)
        losses[example.targets.reshape(-1) < 0] = 0
        wrong = (example.targets >= 0) & (predictions != example.targets)
        for number, (places, name) in enumerate(self._places(wrong)):
            index = np.unravel_index(places, wrong.shape)
            pairs = list(zip(example.targets[index].tolist(), predictions[index].tolist(), strict=True))
            yield {
                "id": example.id,
                "number": number,
                "unit": number if name is None else name,
                "places": places.tolist(),
                "loss": float(losses[places].sum()),
                "share": float(losses[places].sum() / losses.sum()),
                "lowest": float(1 / (1 + np.exp(-z[places].min()))),
                "num_elements": len(places),
                "box": [[int(axis.min()) for axis in index], [int(axis.max()) + 1 for axis in index]],
                "pairs": pairs,
            }

    def _places(self, wrong: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Flat places of the elements of each unit, and its name; None for its number."""
        if self.task == "masks":
            regions, _ = label(wrong)
            for number, _ in enumerate(find_objects(regions), 1):
                yield np.flatnonzero(regions.reshape(-1) == number), None
        elif self.task == "tokens":
            for is_wrong, places in groupby(range(len(wrong)), key=lambda place: bool(wrong[place])):
                span = list(places)
                if is_wrong:
                    yield np.array(span), [span[0], span[-1] + 1]
        else:
            for place in np.flatnonzero(wrong):
                yield np.array([place]), int(place)


def _example(task: Task, name: str, rng: np.random.Generator) -> Example:
    """An example whose logits are multiples of 1/8, so that float32 holds them."""
    classes = len(NAMES[task])
    shape = {"multi_label": (classes,), "tokens": (int(rng.integers(1, 13)),), "masks": (8, 8)}[task]
    true = rng.integers(0, 2 if task == "multi_label" else classes, shape)
    targets = np.where(rng.random(shape) < 0.1, (true + 1) % (2 if task == "multi_label" else classes), true)
    # Each example has an element that counts.
    targets.reshape(-1)[1:][rng.random(targets.size - 1) < 0.05] = -100
    if task == "multi_label":
        logits = rng.normal(size=shape) * 2 + (2 * true - 1) * 2
    else:
        logits = rng.normal(size=(*shape, classes)) * 1.5 + 3 * np.eye(classes)[true]
        logits = np.moveaxis(logits, -1, 0) if task == "masks" else logits
    return Example(name, (np.round(logits * 8) / 8).astype(np.float32), targets)
