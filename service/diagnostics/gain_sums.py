"""Sums over the examples of two runs from which accuracy, loss and calibration follow, also of resamples."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from service.diagnostics.bootstrap import GROUPS, Interval, Resampler, basic_interval, group_sums, percentile_interval
from service.diagnostics.chunks import Booleans, Floats, Integers
from service.schema.replies.fields import Estimate
from service.schema.replies.gain import Metrics

Run = Literal["before", "after"]
Labels = Literal["given", "corrected"]
RUNS: tuple[Run, Run] = ("before", "after")
LABELS: tuple[Labels, Labels] = ("given", "corrected")
BINS = 15
# Columns of the sums: the rows, then for each run under each labels the hits, the loss and the gaps of the bins.
COLUMNS_EACH = 2 + BINS


class Values(NamedTuple):
    """Accuracy, mean loss and calibration error, of the data and of each resample.

    Args:
        data: (3,) float64.
        resamples: (RESAMPLES, 3) float64.
    """

    data: Floats
    resamples: Floats


class GainSums:
    """Sums over the compared examples, in groups for the bootstrap.

    Args:
        num_rows: Number of compared examples.
        num_classes: Number of classes.
    """

    def __init__(self, num_rows: int, num_classes: int) -> None:
        self.num_rows = num_rows
        self.num_groups = min(num_rows, GROUPS)
        self._sums = np.zeros((self.num_groups, 1 + len(RUNS) * len(LABELS) * COLUMNS_EACH))
        self.class_counts: Integers = np.zeros((num_classes, 5), dtype=np.int64)
        self.only: dict[Labels, list[int]] = {labels: [0, 0] for labels in LABELS}

    @property
    def part(self) -> str:
        """Expression in SQL of the group of a row."""
        return "row_number() OVER (ORDER BY id) - 1" if self.num_rows <= GROUPS else f"hash(id) % {GROUPS}"

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows with the columns `part`, `given`, `corrected`, and of each run `prediction_*`, `confidence_*`, and
        `loss_*_*` with the labels and the run in its name."""
        columns = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in rows.schema.names if name != "id"}
        groups = columns["part"].astype(np.int64)
        self._sums[:, 0] += group_sums(groups, self.num_groups)[:, 0]
        for labels in LABELS:
            hits = {run: columns[f"prediction_{run}"] == columns[labels] for run in RUNS}
            for run in RUNS:
                loss, confidence = columns[f"loss_{labels}_{run}"], columns[f"confidence_{run}"]
                self._add(labels, run, groups, hits[run], loss, confidence)
            exclusive = hits["before"] & ~hits["after"], hits["after"] & ~hits["before"]
            self.only[labels] = [n + int(only.sum()) for n, only in zip(self.only[labels], exclusive, strict=True)]
        classes = columns["corrected"].astype(np.int64)
        marks = np.ones(len(classes), dtype=bool), *hits.values(), *exclusive
        for column, mark in enumerate(marks):
            self.class_counts[:, column] += np.bincount(classes[mark], minlength=len(self.class_counts))

    def _add(
        self, labels: Labels, run: Run, groups: Integers, hits: Booleans, loss: Floats, confidence: Floats
    ) -> None:
        start, each = _first_column(labels, run), hits.astype(np.float64)
        # As `service.diagnostics.calibration`: (lower, upper] are the ends of a bin.
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence) - 1
        self._sums[:, start] += group_sums(groups, self.num_groups, each)[:, 0]
        self._sums[:, start + 1] += group_sums(groups, self.num_groups, loss.astype(np.float64))[:, 0]
        gaps = group_sums(groups, self.num_groups, each - confidence, bins.clip(0, BINS - 1), BINS)
        self._sums[:, start + 2 : start + COLUMNS_EACH] += gaps

    def values(self) -> dict[tuple[Labels, Run], Values]:
        """The statistics of each run under each labels."""
        data, resamples = self._sums.sum(axis=0, keepdims=True), Resampler(self.num_groups).resampled(self._sums)
        return {
            (labels, run): Values(_statistics(data, labels, run)[0], _statistics(resamples, labels, run))
            for labels in LABELS
            for run in RUNS
        }


def _first_column(labels: Labels, run: Run) -> int:
    return 1 + (2 * LABELS.index(labels) + RUNS.index(run)) * COLUMNS_EACH


def _statistics(sums: Floats, labels: Labels, run: Run) -> Floats:
    """(n, 3) accuracy, mean loss and calibration error of sums (n, columns)."""
    start = _first_column(labels, run)
    hits, loss, gaps = sums[:, start], sums[:, start + 1], sums[:, start + 2 : start + COLUMNS_EACH]
    with np.errstate(invalid="ignore"):
        return np.stack([hits, loss, np.abs(gaps).sum(axis=1)], axis=1) / sums[:, :1]


def metrics(values: Values, minus: Values | None = None) -> Metrics:
    """Statistics, or their differences, with intervals; a difference is paired by resample."""
    if minus is not None:
        values = Values(values.data - minus.data, values.resamples - minus.resamples)
    accuracy, loss, ece = values.data.tolist()
    least = 0.0 if minus is None else -1.0
    return {
        "accuracy": _estimate(accuracy, percentile_interval(values.resamples[:, 0])),
        "loss": _estimate(loss, percentile_interval(values.resamples[:, 1])),
        # Resampling adds to the absolute gaps of the bins, so the percentiles lie too high.
        "ece": _estimate(ece, basic_interval(values.resamples[:, 2], ece, least)),
    }


def _estimate(value: float, interval: Interval) -> Estimate:
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": interval[0], "high": interval[1]}
