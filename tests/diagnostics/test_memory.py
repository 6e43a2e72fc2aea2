"""The memory of passes over the logits of a run does not depend on the number of its classes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from service.diagnostics.calibration import calibration
from service.diagnostics.chunks import Chunks
from service.diagnostics.label_errors import confident_learning
from service.diagnostics.rows import chunks_of
from tests.bounds.worst_request import MB
from tests.runs.temp_runs import TempRuns, temp_runs

ROWS, CLASSES = 20, 100_000


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """A run with 8 MB of logits in few rows."""
    with temp_runs() as temp:
        temp.create()
        temp.put(np.random.default_rng(0).standard_normal((ROWS, CLASSES), np.float32), np.arange(ROWS))
        yield temp


@pytest.mark.parametrize("diagnose", [calibration, lambda chunks: confident_learning(chunks, CLASSES)])
def test_many_classes_take_little_memory(runs: TempRuns, diagnose: Callable[[Chunks], object]) -> None:
    tracemalloc.start()
    try:
        runs.ask(lambda view: diagnose(chunks_of(view, 0)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * MB
