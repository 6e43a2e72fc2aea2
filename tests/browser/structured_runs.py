"""Runs of several labels, tokens and masks for the tests of the page, each with known wrong labels."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
TAGS = ["beach", "sea", "dog", "car", "person", "boat", "tree", "sky"]
ENTITIES = ["O", "PER", "LOC", "ORG"]
SURFACES = ["background", "animal", "post"]
SENTENCES = [
    ("Angela met the board of Deutsche Bank in Frankfurt on Monday", "1 0 0 0 0 3 3 0 2 0 0"),
    ("Kim and Lee flew to New York for the weekend", "1 0 1 0 0 2 2 0 0 0"),
    ("Nothing of note happened here", "0 0 0 0 0"),
]
HEIGHT, WIDTH = 24, 32
PICTURE = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 24'>"
    "<rect width='32' height='24' fill='%23a7c8e8'/><rect y='15' width='32' height='9' fill='%235f8f4f'/>"
    "<circle cx='10' cy='11' r='6' fill='%23c86'/><rect x='24' y='7' width='4' height='12' fill='%23865'/></svg>"
)


def push_structured(url: str) -> None:
    """Push the runs `tags`, `words` and `scenes` with two epochs each, and a queue `units` of each."""
    rng = np.random.default_rng(5)
    for epoch in range(2):
        _push(
            url, "tags", {"task": "multi_label", "config": {"mode": "sigmoid"}, "class_names": TAGS}, epoch, _tags(rng)
        )
        _push(url, "words", {"task": "tokens", "class_names": ENTITIES}, epoch, _words(rng))
        _push(url, "scenes", {"task": "masks", "class_names": SURFACES}, epoch, _scenes(rng))
    for run in ("tags", "words", "scenes"):
        queue = {"strategy": "top_loss", "budget": 50, "name": "units"}
        httpx.post(f"{url}/runs/{run}/queues", json=queue).raise_for_status()


def _push(url: str, run: str, description: dict[str, Any], epoch: int, batch: dict[str, Any]) -> None:
    httpx.put(f"{url}/runs/{run}", json=description).raise_for_status()
    httpx.put(f"{url}/runs/{run}/epochs/{epoch}/batches/all", json=batch).raise_for_status()


def _tags(rng: np.random.Generator) -> dict[str, Any]:
    """40 pictures. Picture 3 lacks the label dog, and picture 8 has the label car although it shows none."""
    truth = np.random.default_rng(1).integers(0, 2, (40, len(TAGS)))
    truth[3, 2], truth[8, 3] = 1, 0
    given = truth.copy()
    given[3, 2], given[8, 3] = 0, 1
    logits = (2 * truth - 1) * 4 + rng.normal(size=truth.shape)
    logits[3, 2], logits[8, 3] = 9, -8
    attributes = {"image": [PICTURE] * 40, "album": ["summer", "winter"] * 20}
    return _batch("rows", logits, given, [f"picture {row}" for row in range(40)], attributes)


def _words(rng: np.random.Generator) -> dict[str, Any]:
    """Three sentences. "Deutsche Bank" is labelled as a place, and "Lee" is not labelled."""
    logits, targets = [], []
    for _, labels in SENTENCES:
        truth = np.array(labels.split(), dtype=int)
        sentence = rng.normal(size=(len(truth), len(ENTITIES)))
        sentence[np.arange(len(truth)), truth] += 6
        logits.append(sentence.tolist())
        targets.append(truth.tolist())
    targets[0][5:7] = [2, 2]
    targets[1][2] = 0
    ids = [f"sentence/{row}" for row in range(len(SENTENCES))]
    attributes = {"tokens": [text.split() for text, _ in SENTENCES]}
    return {"layout": "ragged", "logits": logits, "targets": targets, "ids": ids, "attributes": attributes}


def _scenes(rng: np.random.Generator) -> dict[str, Any]:
    """Six pictures. The masks of all but scene 0 lack the post, and the one of scene 2 has a stray spot."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    truth = np.where((y - 11) ** 2 + (x - 10) ** 2 < 36, 1, np.where((y >= 7) & (y < 19) & (x >= 24) & (x < 28), 2, 0))
    given = np.repeat(truth[None], 6, axis=0)
    given[1:, 7:19, 24:28] = 0
    given[2, 2:4, 15:18] = 1
    logits = rng.normal(size=(6, 3, HEIGHT, WIDTH)) * 0.3 + 5 * (truth == np.arange(3)[:, None, None])
    logits[1, :, 7:19, 24:28] *= 2
    attributes = {"image": [PICTURE, None, *[PICTURE] * 4], "site": ["north"] * 6}
    return _batch("dense", logits, given, [f"scene {row}" for row in range(6)], attributes)


def _batch(layout: str, logits: Array, targets: Array, ids: list[str], attributes: dict[str, Any]) -> dict[str, Any]:
    arrays = {"logits": logits.round(3).tolist(), "targets": targets.tolist()}
    return {"layout": layout, **arrays, "ids": ids, "attributes": attributes}
