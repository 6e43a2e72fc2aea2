"""Data sets for the diagnostics, read in chunks of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Chunk, Chunks, Floats, Integers, softmax
from service.diagnostics.pair_counts import PairCounts


@dataclass(frozen=True, eq=False)
class DataSet:
    targets: Integers
    logits: Floats

    @property
    def p(self) -> Floats:
        return softmax(self.logits)

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    def whole(self) -> Chunk:
        return Chunk(self.targets, self.logits)

    def chunks(self, size: int | None = None) -> Chunks:
        step = size or max(len(self.targets), 1)
        starts = range(0, len(self.targets), step)
        return lambda: (Chunk(self.targets[i : i + step], self.logits[i : i + step]) for i in starts)


def data_set(targets: Any, probabilities: Any) -> DataSet:
    """Data set with given probabilities; a probability of 0 is a logit of -inf."""
    p = np.asarray(probabilities, dtype=np.float64)
    logits = np.log(p, out=np.full(p.shape, -np.inf), where=p > 0)
    return DataSet(np.asarray(targets, dtype=np.int64), logits)


def dense(pairs: PairCounts) -> Integers:
    """The matrix with its zeros."""
    matrix = np.zeros((pairs.num_classes, pairs.num_classes), np.int64)
    matrix[pairs.first, pairs.second] = pairs.counts
    return matrix


def random_data_set(rows: int, classes: int, seed: int, *, signal: float = 2, missing: int = 0) -> DataSet:
    """Normal logits plus `signal` at the true class; 30 % random labels, the last `missing` classes have no rows."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), true] += signal
    wrong = generator.integers(0, classes - missing, rows)
    targets = np.where((generator.random(rows) < 0.3) | (true >= classes - missing), wrong, true)
    return DataSet(targets, logits)


@st.composite
def data_sets(draw: st.DrawFn) -> DataSet:
    """Up to 40 rows, whose probabilities are often tied or 0, or arbitrary."""
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(2, 7))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
    targets = draw(hnp.arrays(np.int64, rows, elements=st.sampled_from(present)))
    elements = draw(st.sampled_from([st.integers(0, 1), st.integers(0, 3), st.floats(0, 9, width=16)]))
    weights = draw(hnp.arrays(np.float64, (rows, classes), elements=elements))
    weights[np.arange(rows), targets] += draw(st.sampled_from([1, 1e-3, 1e-9]))
    return data_set(targets, weights / weights.sum(axis=1, keepdims=True))
