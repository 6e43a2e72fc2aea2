"""A run with ids, class names and texts that tools are known to misread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.client import LossClient, RunClient
from tests.live.server_process import ServerProcess

CLASS_NAMES = ["NA", "null", "cat"]
ROWS = 60
IDS = [f"{number:05}" for number in range(ROWS)]
TEXTS = ['=1+1, "quoted"\nsecond line 🐈' if number % 7 == 0 else f"text {number}" for number in range(ROWS)]
# A third of the rows have a label that the model disagrees with.
RNG = np.random.default_rng(0)
PREDICTED = RNG.integers(0, 3, ROWS)
LABELS = np.where(np.arange(ROWS) % 3 == 0, (PREDICTED + 1) % 3, PREDICTED)
LOGITS = (RNG.standard_normal((ROWS, 3)) + 5 * np.eye(3)[PREDICTED]).astype(np.float32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow the warnings of the tools, which are not ours."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture
def run(server: ServerProcess) -> Iterator[RunClient]:
    with LossClient(server.url) as client:
        run = client.put_run("tools", class_names=CLASS_NAMES)
        run.push(0, "all", LOGITS, LABELS, IDS, attributes={"text": TEXTS})
        yield run
        run.delete()


@pytest.fixture
def rows(run: RunClient) -> list[Any]:
    """The rows of the run by descending loss, as an export has them."""
    return list(run.all_examples())
