"""Elements of stored examples, in parts of any size and for any number of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.client import LossClient, RunClient
from tests.exports.structured_examples import mask_of

RNG = np.random.default_rng(5)
SHAPES = {"first": "ab", "second": "bcd"}
MASKS = {name: RNG.integers(0, 3, (len(ids), 3, 4)) for name, ids in SHAPES.items()}


@pytest.fixture
def run(loss_client: LossClient) -> Iterator[RunClient]:
    """A run of two batches; both have an example `b`, of which the second one counts."""
    run = loss_client.put_run("elements", task="masks")
    for name, ids in SHAPES.items():
        logits = np.moveaxis(4 * np.eye(3)[MASKS[name]], 3, 1)
        run.push(0, name, {"logits": logits, "targets": np.zeros_like(MASKS[name]), "ids": list(ids)})
    run.create_queue(strategy="top_loss", budget=20, name="q")
    yield run
    run.delete()


def masks_of(content: bytes) -> dict[str, Any]:
    labels = json.loads(content)["labels"].items()
    return {name: mask_of(label["mask"]) for name, label in labels}


@pytest.mark.parametrize("limits", [{}, {"MAX_IDS_IN_SQL": 0}, {"ELEMENTS_AT_ONCE": 1}])
@pytest.mark.parametrize("queue", [None, "q"])
def test_each_example_has_the_elements_that_were_sent_last(
    run: RunClient, queue: str | None, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(f"service.exports.element_file.{name}", value)
    masks = masks_of(run.export(format="fiftyone", queue=queue))
    expected = dict(zip("abcd", [MASKS["first"][0], *MASKS["second"]], strict=True))
    assert masks.keys() == expected.keys()
    for name, mask in masks.items():
        assert (mask == expected[name]).all()
    tasks = json.loads(run.export(format="label-studio", queue=queue))
    pixels = {
        task["data"]["external_id"]: sum(unit["num_elements"] for unit in task["data"]["units"]) for task in tasks
    }
    assert pixels == {name: (mask > 0).sum() for name, mask in expected.items()}
