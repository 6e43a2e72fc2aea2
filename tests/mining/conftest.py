"""A service with a run for each task."""

from __future__ import annotations

import httpx
import pytest

from service.schema.structure import Task
from tests.mining.structured_runs import TASKS, Data


@pytest.fixture(scope="session")
def data() -> dict[Task, Data]:
    """The examples of the runs of `task_runs`."""
    return {task: Data.of(task) for task in TASKS}


@pytest.fixture
def task_runs(client: httpx.Client, data: dict[Task, Data]) -> httpx.Client:
    """A client of a service with a run for each task, under its name, and one with one class an example."""
    if not client.get("/runs").json()["runs"]:
        for task, examples in data.items():
            examples.put(client, task)
        client.put("/runs/classification", json={})
        batch = {"logits": [[0.0, 1.0], [1.0, 0.0]], "targets": [1, 1], "ids": ["a", "b"]}
        client.put("/runs/classification/epochs/0/batches/b", json=batch).raise_for_status()
    return client
