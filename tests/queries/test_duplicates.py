"""Ids that stand twice in an epoch: everything equals a run that has only the rows that count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.diagnostics.compare import compare
from service.diagnostics.dynamics import dynamics_page
from service.diagnostics.summary import diagnostics
from service.exports.source import epoch_rows
from service.mining.queues import preview
from service.mining.requests import QueueRequest
from service.queries.duplicates import SCHEMA, LeftOut
from service.queries.examples import example, examples_page
from service.queries.filters import Filter
from service.queries.order import Order
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from tests.lanes import mostly_slow
from tests.mining.queue_dicts import whole
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

CLASSES, EPOCHS = 4, (0, 1, 3)
STRATEGIES = ("top_loss", "logit_margin", "area_under_margin", "suspected_errors", "ambiguous", "top_share", "random")


def put_all(runs: TempRuns, seed: int) -> int:
    """Store the same batches in the run `all`, and in the run `counted` with only the rows that count.

    A row that does not count has the target `ignore_index` there, so that the others keep their places.

    Returns:
        Number of rows that do not count.
    """
    generator, left_out = np.random.default_rng(seed), 0
    for name in ("all", "counted"):
        runs.create({"alpha": [1, 2, 1, 0.5], "gamma": 1}, run=name)
    for epoch in EPOCHS:
        batches: dict[str, tuple[Any, Any, list[str], dict[str, list[Any]] | None]] = {}
        for batch in generator.permutation(["a", "b", "c10", "c9", "é"]).tolist():
            number = int(generator.integers(1, 30))
            # Epoch 1 has no duplicates.
            ids = [f"{batch if epoch == 1 else ''}{place}" for place in generator.permutation(40)[:number]]
            logits, targets = noisy(number, CLASSES, int(generator.integers(10_000)))
            texts = {"who": generator.choice(["kim", "lee"], number).tolist()} if batch in ("a", "c9") else None
            batches[batch] = (logits, targets, ids, texts)
        last = {identity: batch for batch in sorted(batches) for identity in batches[batch][2]}
        for batch, (logits, targets, ids, texts) in batches.items():
            counts = np.array([last[identity] == batch for identity in ids])
            left_out += int((~counts).sum())
            runs.put(logits, targets, ids, run="all", epoch=epoch, batch=batch, attributes=texts)
            kept = np.where(counts, targets, -100)
            runs.put(logits, kept, ids, run="counted", epoch=epoch, batch=batch, attributes=texts)
    return left_out


# In run 2 the files of an epoch are merged.
@pytest.fixture(params=[*(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1)), 2], scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[TempRuns]:
    with temp_runs() as temp:
        assert put_all(temp, request.param) > 20
        if request.param == 2:
            for run in ("all", "counted"):
                temp.merge(0, run)
        yield temp


def same(runs: TempRuns, question: Any) -> Any:
    """The result of a question about both runs, without the name of the run."""
    first, second = (plain(runs.ask(question, run)) for run in ("all", "counted"))
    assert first == second
    return first


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in ("run", "created_at")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    # Sums depend on the order in which threads read the rows.
    return pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True) if isinstance(value, float) else value


@pytest.mark.parametrize("epoch", mostly_slow(EPOCHS, quick=1))
def test_examples(runs: TempRuns, epoch: int) -> None:
    def page(view: View, where: Filter | None = None) -> Any:
        return examples_page(
            view, view.weighting(), epoch, where=where or Filter(), order=Order.parse("-loss"), limit=200
        )

    rows = same(runs, page)["rows"]
    assert len({row["id"] for row in rows}) == len(rows) == runs.ask(lambda view: view.num_examples(epoch), "all")
    assert same(runs, lambda view: page(view, Filter(attributes={"who": "kim"})))["num_matching"] > 0
    for row in rows[::8]:
        same(runs, lambda view, name=row["id"]: example(view, view.weighting(), epoch, name, ReviewHistory([])))


@pytest.mark.parametrize("epoch", mostly_slow(EPOCHS, quick=1))
def test_diagnostics(runs: TempRuns, epoch: int) -> None:
    full, counted = (
        runs.ask(lambda view: diagnostics(view, view.weighting(), epoch), run) for run in ("all", "counted")
    )
    number = full.pop("num_duplicates")
    assert number == runs.store.snapshot("all").num_rows(epoch) - counted["num_examples"]
    assert counted.pop("num_duplicates") == 0
    texts = {warning["code"]: warning["message"] for warning in full["warnings"]}
    assert ("duplicated_ids" in texts) == (epoch != 1)
    if epoch != 1:
        assert f"{number} rows of epoch {epoch} are left out" in texts["duplicated_ids"]
    full["warnings"] = [warning for warning in full["warnings"] if warning["code"] != "duplicated_ids"]
    for reply in (full, counted):
        reply["num_ignored"] = 0
    assert plain(full) == plain(counted)


def test_dynamics(runs: TempRuns) -> None:
    same(runs, lambda view: dynamics_page(view, view.weighting(), limit=1000, bins=10))


@pytest.mark.parametrize("strategy", mostly_slow(STRATEGIES, quick=3))
def test_queues(runs: TempRuns, strategy: str) -> None:
    request = QueueRequest.parse({"strategy": strategy, "budget": 30, "epoch": 3})
    assert same(runs, lambda view: whole(preview(runs.store, view, request, view.weighting(), [])))["rows"]
    quotas = QueueRequest.parse({"strategy": strategy, "budget": 30, "epoch": 3, "per_class": "proportional"})
    same(runs, lambda view: whole(preview(runs.store, view, quotas, view.weighting(), [])))


@pytest.mark.parametrize("epoch", mostly_slow(EPOCHS, quick=1))
def test_exports(runs: TempRuns, epoch: int) -> None:
    def rows(view: View) -> list[Any]:
        exported = epoch_rows(view, view.weighting(), epoch, {})
        return [(row.id, row.rank, row.attributes, round(row.loss, 12)) for row in exported]

    assert len(same(runs, rows)) == runs.ask(lambda view: view.num_examples(epoch), "all")


def test_comparison(runs: TempRuns) -> None:
    def question(view: View) -> Any:
        other = view.of(runs.store.snapshot("counted"))
        return compare(view, other, view.weighting(), (3, 0))

    result = same(runs, question)
    equal = runs.ask(
        lambda view: compare(view, view.of(runs.store.snapshot("counted")), view.weighting(), (0, 0)), "all"
    )
    assert (equal["num_only_before"], equal["num_only_after"], equal["overlap"]) == (0, 0, 1)
    assert result["num_common"] > 0


def test_a_batch_that_is_added_or_replaced_changes_the_rows_that_count() -> None:
    with temp_runs() as temp:
        temp.create()
        temp.put([[0.0, 1.0], [0.0, 2.0]], [1, 1], ["x", "y"], batch="b")

        def shown() -> list[tuple[str, str]]:
            sql = "SELECT id, batch FROM {} ORDER BY id"
            rows = temp.ask(lambda view: view.rows(sql.format(view.stored(0))))
            return [(row["id"], row["batch"]) for row in rows]

        assert shown() == [("x", "b"), ("y", "b")]
        temp.put([[0.0, 3.0]], [1], ["x"], batch="a")
        assert shown() == [("x", "b"), ("y", "b")]
        temp.put([[0.0, 4.0]], [1], ["y"], batch="c")
        assert shown() == [("x", "b"), ("y", "c")]
        assert temp.ask(lambda view: view.num_examples(0)) == 2


def test_rows_are_removed_by_batch_and_place() -> None:
    left_out = LeftOut(pa.table({"epoch": [0, 0], "batch": ["a", "b"], "row": [1, 0]}, schema=SCHEMA))
    batch, row = pa.array(["a", "a", "b", "b", "c"]), pa.array([0, 1, 0, 1, 0], pa.int32())
    rows = left_out.remove_from(pa.record_batch({"batch": batch, "row": row}))
    assert rows.to_pydict() == {"batch": ["a", "b", "c"], "row": [0, 1, 0]}
