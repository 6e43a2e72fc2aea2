"""The memory of a queue depends on its budget and on `query_memory_bytes`, and not on the rows of the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.mining.queues import preview
from service.mining.requests import QueueRequest
from tests.bounds.worst_request import MB
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

BATCHES, ROWS = 10, 100_000
QUERY_MB = 64
# For the threads of a query and for what its allocator keeps; the rows as Python objects take 2 GB.
FURTHER_MB = 128
REQUESTS: dict[str, tuple[dict[str, Any], int]] = {
    "a cap that nearly all rows exceed": ({"budget": 1000, "at_most": {"attribute": "group", "count": 1}}, 3),
    "a class with too few rows": ({"budget": 1000, "per_class": {"1": 999}}, 500),
    "the largest budget": ({"budget": 100_000}, 100_000),
    "adjusted scores": ({"strategy": "adjusted_margin", "budget": 1000}, 1000),
}


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """A million rows in three groups; 500 are of class 1."""
    with temp_runs(QUERY_MB * MB) as temp:
        temp.create()
        targets = np.zeros(ROWS, np.int64)
        targets[:50] = 1
        groups = [f"group {row % 3}" for row in range(ROWS)]
        for batch in range(BATCHES):
            ids = [f"{batch}-{row:06}" for row in range(ROWS)]
            temp.put(noisy(ROWS, 2, batch)[0], targets, ids, batch=f"b{batch}", attributes={"group": groups})
        grown_mb(lambda: temp.ask(lambda view: view.row(f"SELECT max(loss) AS m FROM {view.scored(view.weighting())}")))
        yield temp


def grown_mb(work: Callable[[], object]) -> float:
    """Growth of the peak of resident memory."""
    status = Path("/proc/self/status")
    # Sets the peak to the present memory; see proc(5).
    Path("/proc/self/clear_refs").write_text("5")
    before, _ = _memory_mb(status.read_text()), work()
    return _memory_mb(status.read_text()) - before


def _memory_mb(status: str) -> float:
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MB


@pytest.mark.parametrize("name", REQUESTS)
def test_memory_does_not_grow_with_the_rows_of_a_run(
    runs: TempRuns, name: str, record_property: Callable[[str, object], None]
) -> None:
    members, expected = REQUESTS[name]
    request = QueueRequest.parse({"strategy": "top_loss"} | members)
    sizes: list[int] = []
    grown = grown_mb(
        lambda: sizes.append(len(runs.ask(lambda view: preview(runs.store, view, request, view.weighting(), []))))
    )
    assert sizes == [expected]
    assert grown < QUERY_MB + FURTHER_MB, f"+{grown:.0f} MB"
    record_property("figures", f"+{grown:.0f} MB")
