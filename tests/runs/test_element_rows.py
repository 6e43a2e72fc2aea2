"""Stored rows of structured examples: merged, replaced, verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.runs.data_files import METADATA_KEY
from service.runs.epoch_files import EpochFolder
from service.runs.schema import ELEMENT_SCHEMA
from service.runs.store import RunStore
from service.runs.verify import verify
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.lanes import mostly_slow
from tests.services import running_app

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(4)
BATCHES = 40
RUNS: dict[str, dict[str, Any]] = {
    "multi_label": {"config": {"mode": "sigmoid"}},
    "tokens": {},
    "masks": {"store_logits": False},
}


def body(task: str, number: int) -> dict[str, Any]:
    """A batch of three examples."""
    ids = [f"{number}-{row}" for row in range(3)]
    attributes = {"place": [number, None, "x"]}
    if task == "multi_label":
        logits, targets = RNG.normal(size=(3, 5)).tolist(), RNG.integers(0, 2, (3, 5)).tolist()
        return {"logits": logits, "targets": targets, "ids": ids, "attributes": attributes}
    if task == "tokens":
        sizes = (1 + number % 4, 1, 3)
        tokens = [RNG.normal(size=(size, 3)).tolist() for size in sizes]
        targets = [RNG.integers(0, 3, size).tolist() for size in sizes]
        return {"layout": "ragged", "logits": tokens, "targets": targets, "ids": ids, "attributes": attributes}
    shape = (3 + number % 2, 4)
    logits, targets = RNG.normal(size=(3, 3, *shape)).tolist(), RNG.integers(0, 3, (3, *shape)).tolist()
    return {"layout": "dense", "logits": logits, "targets": targets, "ids": ids, "attributes": attributes}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, httpx.Client]]:
    """A data directory with a run of each task, and the app that wrote it; one batch is replaced."""
    folder = tmp_path_factory.mktemp("data")
    with (
        running_app(folder, data_dir=str(folder)) as transport,
        httpx.Client(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        for task, description in RUNS.items():
            client.put(f"/runs/{task}", json={"task": task, **description}).raise_for_status()
            for number in [*range(BATCHES), 0]:
                reply = client.put(f"/runs/{task}/epochs/0/batches/b{number}?replace=true", json=body(task, number))
                reply.raise_for_status()
        yield folder, client


def folder_of(folder: Path, run: str) -> EpochFolder:
    store = RunStore(open_files(str(folder)), 10**6)
    return store.epoch_folder(store.snapshot(run).root, 0)


def examples(client: httpx.Client, run: str) -> Any:
    return client.get(f"/runs/{run}/examples", params={"limit": 1000}).raise_for_status().json()


@pytest.mark.parametrize("run", mostly_slow(RUNS, quick=1))
def test_merging_keeps_every_row(stored: tuple[Path, httpx.Client], run: str) -> None:
    folder, client = stored
    before = examples(client, run)
    assert len(before["rows"]) == BATCHES * 3
    details = [client.get(f"/runs/{run}/examples/{row['id']}").json() for row in before["rows"][:5]]
    files = folder_of(folder, run)
    while compact(files):
        pass
    assert len(files.live()) < BATCHES
    merged = pq.read_schema(folder / max(file.path for file in files.live() if "level" in file.name))
    assert merged.equals(ELEMENT_SCHEMA)
    assert examples(client, run) == before
    assert [client.get(f"/runs/{run}/examples/{row['id']}").json() for row in before["rows"][:5]] == details
    assert list(verify(RunStore(open_files(str(folder)), 10**6), run, {})) == []


@pytest.mark.parametrize("column", ["targets", "element_log_odds", "shape", "id"])
def test_changed_values_are_found(stored: tuple[Path, httpx.Client], tmp_path: Path, column: str) -> None:
    """A file that was written again with another value has right checksums, and another digest."""
    folder = tmp_path / "data"
    shutil.copytree(stored[0], folder)
    file = next(file for file in folder_of(folder, "masks").live() if file.size)
    path = folder / file.path
    table = pq.read_table(path)
    place = ELEMENT_SCHEMA.names.index(column)
    values = table[column].to_pylist()
    if column == "id":
        values[0] = "another"
    else:
        values[0][0] += 1
    changed = table.set_column(place, ELEMENT_SCHEMA.field(column), pa.array(values, ELEMENT_SCHEMA.field(column).type))
    pq.write_table(changed.replace_schema_metadata({METADATA_KEY: pq.read_metadata(path).metadata[METADATA_KEY]}), path)
    (finding,) = verify(RunStore(open_files(str(folder)), 10**6), "masks", {})
    assert "has other rows of batch" in finding.problem
