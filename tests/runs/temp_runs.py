"""Runs in a temporary folder, stored as `PUT /runs/{run}/epochs/{epoch}/batches/{batch}` stores them.

`TempRuns.raw` reads the Parquet files with pyarrow, and `scored` computes every score in numpy by the paper's formula:
neither uses DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss.focal import FocalLoss
from service.queries.run_queries import RunQueries
from service.queries.view import View
from service.runs.data_files import Footer
from service.runs.ingest import check_batches
from service.runs.manifest import RunDescription
from service.runs.rows import STORED_OUTPUTS, content_digest, stored_rows
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.request import STATISTICS, Batch, LossRequest, RequestOptions
from service.schema.result import LossResult
from service.storage.compaction import compact
from service.storage.files import open_files

T = TypeVar("T")
Rows = list[dict[str, Any]]
LIMITS = Limits(10**8, 10**7)


class TempRuns:
    """A store in a temporary folder, with queries."""

    def __init__(self, folder: str, memory_bytes: int) -> None:
        self.store = RunStore(open_files(folder), 10**7)
        self.queries = RunQueries(self.store, memory_bytes)
        self._device = Device("cpu")

    def close(self) -> None:
        self.queries.close()

    def create(self, config: dict[str, Any] | None = None, run: str = "r", **description: Any) -> Snapshot:
        return self.store.create(run, RunDescription.parse({"config": config or {}, **description}))[0]

    def put(
        self,
        logits: Any,
        targets: Any,
        ids: Sequence[str | int] | None = None,
        *,
        run: str = "r",
        epoch: int = 0,
        batch: str = "b",
        attributes: Mapping[str, Sequence[Any]] | None = None,
        on_invalid: str = "error",
        reduce: bool = False,
    ) -> LossResult:
        """Store a batch as the route does, with `reduce` as statistics; the ids default to `e0000`, ..."""
        snapshot = self.store.snapshot(run)
        config, description = snapshot.description.config, snapshot.description
        names = [f"e{row:04d}" for row in range(len(logits))] if ids is None else list(ids)
        batches = (Batch(np.asarray(logits), np.asarray(targets), names, attributes),)
        options = RequestOptions.parse({"outputs": ["loss", *STORED_OUTPUTS], "on_invalid": on_invalid})
        module = FocalLoss.from_config(config, "cpu")
        if reduce:
            whole = evaluate(self._device, module, LossRequest(options, batches), LIMITS)
            statistics = {name: whole.per_example[name] for name in STATISTICS}
            batches = (replace(batches[0], logits=np.empty(0), statistics=statistics),)
        checked = check_batches(config, batches)
        result = evaluate(self._device, module, LossRequest(options, batches), LIMITS, unique_ids=True)
        rows = stored_rows(epoch, batch, checked, result.batches, store_logits=description.store_logits)
        footer = Footer(
            rows=len(rows),
            batches={batch: content_digest(checked)},
            num_ignored=result.num_ignored,
            num_excluded=result.num_excluded,
            has_attributes=bool(attributes),
            like_probabilities=(batch,) if result.warns("probabilities_as_logits") else (),
            like_log_probabilities=(batch,) if result.warns("log_probabilities_as_logits") else (),
            without_logits=(batch,) if reduce else (),
        )
        num_classes = np.shape(logits)[1] if reduce else checked[0].num_classes if len(logits) else snapshot.num_classes
        self.store.add(snapshot, epoch, batch, rows, lambda: footer, num_classes)
        return result

    def ask(self, question: Callable[[View], T], run: str = "r") -> T:
        return self.queries.ask(run, question)

    def raw(self, run: str = "r", epoch: int | None = None) -> Rows:
        """Rows of all files, by epoch, batch and row."""
        snapshot = self.store.snapshot(run)
        rows = [
            row
            for file in snapshot.with_rows(epoch)
            for row in pq.ParquetFile(self.store.files.url(file.path)).read().to_pylist()
            if row["batch"] not in file.hidden
        ]
        return sorted(rows, key=lambda row: (row["epoch"], row["batch"], row["row"]))

    def counted(self, run: str = "r", epoch: int | None = None) -> Rows:
        """The rows that count: of those of an epoch with the same id the last one."""
        last = {(row["epoch"], row["id"]): row for row in self.raw(run, epoch)}
        return sorted(last.values(), key=lambda row: (row["epoch"], row["batch"], row["row"]))

    def merge(self, epoch: int, run: str = "r") -> int:
        """Merge the files of an epoch, however few they are."""
        return compact(self.store.epoch_folder(self.store.snapshot(run).root, epoch))


@contextmanager
def temp_runs(memory_bytes: int = 2**30) -> Iterator[TempRuns]:
    with TemporaryDirectory() as folder:
        runs = TempRuns(folder, memory_bytes)
        try:
            yield runs
        finally:
            runs.close()


def scored(rows: Sequence[dict[str, Any]], alpha: Sequence[float] | None = None, gamma: float = 2.0) -> Rows:
    """The rows with every score of `SCORE_NAMES`, alpha_t and log_loss: float64, from the stored log_odds."""
    # Infinite log_odds (masked classes) have the scores of a very large number.
    z = np.array([row["log_odds"] for row in rows], dtype=np.float64).clip(-1e30, 1e30)
    weights = np.array([1.0 if alpha is None else alpha[row["target"]] for row in rows])
    cross_entropy, softplus_z = np.logaddexp(0, -z), np.logaddexp(0, z)
    with np.errstate(divide="ignore"):
        log_ce = np.where(z > 30, -z, np.log(cross_entropy))
        log_loss = np.where(weights == 0, -np.inf, np.log(weights) - gamma * softplus_z + log_ce)
        loss = weights * np.exp(-gamma * softplus_z) * cross_entropy
    columns = {
        "alpha_t": weights,
        "cross_entropy": cross_entropy,
        "p_t": np.exp(-cross_entropy),
        "loss": loss,
        "log_loss": log_loss,
    }
    return [row | {name: values[index].item() for name, values in columns.items()} for index, row in enumerate(rows)]


def noisy(rows: int, classes: int, seed: int, *, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits in float32 and targets, some of them wrong; logits are multiples of 1/4, so that there are many ties."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, rows)
    logits = np.round(generator.normal(size=(rows, classes)) * spread * 4) / 4
    logits[np.arange(rows), true] += 2
    targets = np.where(generator.random(rows) < 0.2, generator.integers(0, classes, rows), true)
    return logits.astype(np.float32), targets


__all__ = ["TempRuns", "noisy", "scored", "temp_runs"]
