"""Rows of a queue and of an epoch, as they are exported."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet
import pytest

from service.exports.formats import FORMATS
from service.exports.source import epoch_rows, queue_rows
from service.mining.queues import create_queue, queue
from service.mining.requests import QueueRequest
from service.queries.view import View
from tests.exports.examples import options, whole
from tests.lanes import mostly_slow
from tests.runs.histories import history_of
from tests.runs.temp_runs import TempRuns, temp_runs

TEXTS = {"text": ["a", "b", None]}


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    """A run with a row whose other classes are masked, so that its margin is infinite."""
    with temp_runs() as store:
        store.create(class_names=["cat", "dog"])
        store.put(np.float32([[0, -np.inf], [1, 0], [0, 1]]), [0, 0, 0], ["masked", "right", "wrong"], attributes=TEXTS)
        yield store


def test_rows_of_an_epoch_are_in_descending_order_of_the_loss(runs: TempRuns) -> None:
    verdicts = history_of({"id": "wrong", "verdict": "wrong", "label": 1}).verdicts
    rows = runs.ask(lambda view: list(epoch_rows(view, view.weighting(), 0, verdicts)))
    assert [(row.rank, row.id) for row in rows] == [(1, "wrong"), (2, "right"), (3, "masked")]
    assert (rows[0].given_label, rows[0].suggested_label) == ("cat", "dog")
    assert (rows[0].verdict, rows[0].verdict_label, rows[1].verdict) == ("wrong", "dog", None)
    assert rows[2].logit_margin == math.inf
    assert [row.attributes for row in rows] == [{}, {"text": "b"}, {"text": "a"}]
    some = runs.ask(lambda view: list(epoch_rows(view, view.weighting(), 0, {}, ["masked", "unknown"])))
    assert [(row.rank, row.id, row.attributes) for row in some] == [(3, "masked", {"text": "a"})]


def test_attributes_are_those_that_were_sent_last(runs: TempRuns) -> None:
    runs.put(np.float32([[1, 0]]), [0], ["right"], epoch=1, attributes={"text": ["new"]})
    attributes = runs.ask(lambda view: {row.id: row.attributes for row in epoch_rows(view, view.weighting(), 0, {})})
    assert attributes == {"wrong": {}, "right": {"text": "new"}, "masked": {"text": "a"}}


@pytest.mark.parametrize("name", mostly_slow(FORMATS, quick=2))
def test_every_format_writes_a_queue_with_infinite_scores(runs: TempRuns, name: str) -> None:
    def export(view: View) -> bytes:
        create_queue(runs.store, view, QueueRequest(name="q", strategy="random", budget=3), view.weighting(), [])
        rows = queue(runs.store, view.snapshot, "q")
        return whole(FORMATS[name].write(queue_rows(view, rows, {}), options(3)))

    content = runs.ask(export)
    assert b"masked" in content
    if name == "parquet":
        margins = {
            row["id"]: row["logit_margin"] for row in pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
        }
        assert margins == {"masked": None, "right": 1, "wrong": -1}
