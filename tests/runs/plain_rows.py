"""Rows for the store with artificial scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from service.runs.data_files import Footer
from service.runs.schema import SCHEMA, SCORES
from service.runs.store import RunStore

NUM_CLASSES = 3


def rows_of(epoch: int, batch: str, ids: list[str]) -> pa.Table:
    number = len(ids)
    columns = {
        "epoch": pa.array([epoch] * number, pa.int32()),
        "batch": pa.array([batch] * number, pa.string()),
        "row": pa.array(range(number), pa.int32()),
        "id": pa.array(ids, pa.string()),
        "target": pa.array([row % NUM_CLASSES for row in range(number)], pa.int32()),
        "prediction": pa.array([0] * number, pa.int32()),
        **{name: pa.array(np.linspace(-1, 1, number), pa.float32()) for name in SCORES},
        "logits": pa.array([[0.0, 1.0, 2.0]] * number, pa.list_(pa.float32())),
        "attributes": pa.nulls(number, pa.string()),
    }
    return pa.table(columns, schema=SCHEMA)


def add(store: RunStore, run: str, epoch: int, batch: str, ids: list[str], digest: str = "same") -> bool:
    rows = rows_of(epoch, batch, ids)
    return store.add(store.snapshot(run), epoch, batch, rows, lambda: Footer(len(rows), {batch: digest}), NUM_CLASSES)


def ids_in(store: RunStore, run: str, epoch: int) -> list[str]:
    """All ids of an epoch, sorted, with repetitions."""
    ids: list[str] = []
    for file in store.snapshot(run).data:
        if file.epoch == epoch:
            with store.files.open(file.path) as opened:
                ids += pa.parquet.read_table(opened, columns=["id"]).column("id").to_pylist()
    return sorted(ids)
