"""Comparisons of two runs against plain Python, and Spearman's rho against scipy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from service.diagnostics.compare import MAX_MOVES, compare
from service.errors import InvalidConfigError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.comparison import Comparison
from tests.replies import assert_is
from tests.runs.temp_runs import Rows, TempRuns, noisy, scored, temp_runs
from tests.strategies import at_most

FOCAL = Weighting((1.0, 2.0, 0.5), 2.0)


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as store:
        store.create(run="a")
        store.create(run="b")
        yield store


def compare_runs(
    runs: TempRuns,
    top: int | None = None,
    epochs: tuple[int, int] = (0, 0),
    weighting: Weighting = FOCAL,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    def question(view: View) -> Comparison:
        return compare(view, view.of(runs.store.snapshot(names[1])), weighting, epochs, top)

    result = runs.ask(question, names[0])
    assert_is(Comparison, result)
    return result


def hardest_rows(rows: Rows) -> dict[str, dict[str, Any]]:
    """One row for each id: the row with the largest loss, the last among equal losses."""
    result: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["log_loss"], row["batch"], row["row"])):
        result[row["id"]] = row
    return result


def ranks(rows: dict[str, dict[str, Any]], ids: set[str]) -> dict[str, int]:
    order = sorted(ids, key=lambda identity: (-rows[identity]["log_loss"], identity))
    return {identity: rank for rank, identity in enumerate(order, start=1)}


def reference(runs: TempRuns, top: int | None, epochs: tuple[int, int]) -> dict[str, Any]:
    before, after = (
        hardest_rows(scored(runs.counted(run, epoch), FOCAL.alpha, FOCAL.gamma))
        for run, epoch in zip("ab", epochs, strict=True)
    )
    ids = before.keys() & after.keys()
    old, new = ranks(before, ids), ranks(after, ids)
    size = min(len(ids), max(10, math.ceil(len(ids) / 100)) if top is None else top)
    hard_before, hard_after = ({name for name in ids if rank[name] <= size} for rank in (old, new))
    moved = sorted(
        (name for name in ids if old[name] != new[name]), key=lambda name: (-abs(old[name] - new[name]), name)
    )
    classes = []
    for label in sorted({after[name]["target"] for name in ids}):
        ids_of_class = [name for name in ids if after[name]["target"] == label]
        classes.append(
            {
                "class": label,
                "count": len(ids_of_class),
                "mean_loss_before": statistics.fmean(before[name]["loss"] for name in ids_of_class),
                "mean_loss_after": statistics.fmean(after[name]["loss"] for name in ids_of_class),
                "num_newly_hard": len(hard_after.difference(hard_before) & set(ids_of_class)),
                "num_resolved": len(hard_before.difference(hard_after) & set(ids_of_class)),
            }
        )
    return {
        "num_common": len(ids),
        "num_only_before": len(before.keys() - ids),
        "num_only_after": len(after.keys() - ids),
        "top": size,
        "overlap": len(hard_before & hard_after) / size if size else None,
        "num_newly_hard": len(hard_after - hard_before),
        "num_resolved": len(hard_before - hard_after),
        "num_relabelled": sum(before[name]["target"] != after[name]["target"] for name in ids),
        "num_predicted_otherwise": sum(before[name]["prediction"] != after[name]["prediction"] for name in ids),
        "mean_loss_before": statistics.fmean(before[name]["loss"] for name in ids) if ids else None,
        "mean_loss_after": statistics.fmean(after[name]["loss"] for name in ids) if ids else None,
        "classes": classes,
        "newly_hard": sorted(hard_after - hard_before, key=new.__getitem__)[:MAX_MOVES],
        "resolved": sorted(hard_before - hard_after, key=old.__getitem__)[:MAX_MOVES],
        "moves": moved[:MAX_MOVES],
        "ranks": (old, new),
        "rows": (before, after),
    }


def assert_equal(result: dict[str, Any], expected: dict[str, Any]) -> None:
    old, new = expected.pop("ranks")
    before, after = expected.pop("rows")
    for name in ("newly_hard", "resolved", "moves"):
        for row in result[name]:
            identity = row["id"]
            assert (row["rank_before"], row["rank_after"]) == (old[identity], new[identity])
            for key in ("target", "prediction", "loss"):
                for side, rows in (("before", before), ("after", after)):
                    assert row[f"{key}_{side}"] == pytest.approx(rows[identity][key], rel=1e-12)
        result[name] = [row["id"] for row in result[name]]
    rho = result.pop("rank_correlation")
    if len(old) > 1:
        names = sorted(old)
        assert rho == pytest.approx(spearmanr([old[n] for n in names], [new[n] for n in names]).statistic, abs=1e-12)
    else:
        assert rho is None
    for name, value in expected.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            assert [list(row) for row in result[name]] == [list(row) for row in value]
            assert [[*row.values()] for row in result[name]] == [pytest.approx([*row.values()]) for row in value]
        else:
            assert result[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_runs_that_share_some_examples(runs: TempRuns) -> None:
    for run, start, seed in (("a", 0, 1), ("b", 100, 2)):
        logits, targets = noisy(400, 3, seed)
        runs.put(logits, targets, [f"e{start + row}" for row in range(400)], run=run)
    for top in (None, 1, 37, 300, 10_000):
        result = compare_runs(runs, top)
        assert result["before"] == {"run": "a", "epoch": 0, "num_examples": 400}
        assert result["after"] == {"run": "b", "epoch": 0, "num_examples": 400}
        assert_equal(result, reference(runs, top, (0, 0)))
    orjson.dumps(compare_runs(runs))


@pytest.mark.slow
@at_most(15, deadline=None)
@given(st.data())
def test_few_examples_with_ties_and_duplicate_ids(data: st.DataObject) -> None:
    top = data.draw(st.none() | st.integers(1, 6))
    with temp_runs() as runs:
        for run in "ab":
            runs.create(run=run)
            for batch in range(data.draw(st.integers(1, 2))):
                ids = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True))
                logits = data.draw(
                    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=len(ids), max_size=len(ids))
                )
                targets = data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
                runs.put(np.float32(logits), targets, ids, run=run, epoch=4, batch=f"b{batch}")
        assert_equal(compare_runs(runs, top, (4, 4)), reference(runs, top, (4, 4)))


def test_a_loss_beyond_float64_is_null(runs: TempRuns) -> None:
    for run in "ab":
        runs.put([[0.0, 60000, 0], [0.0, 1, 0]], [0, 0], run=run)
    reply = orjson.loads(orjson.dumps(compare_runs(runs, weighting=Weighting((1e308, 1.0, 1.0), 2.0))))
    assert (reply["mean_loss_before"], reply["classes"][0]["mean_loss_after"]) == (None, None)


def test_two_epochs_of_one_run_and_a_run_with_itself(runs: TempRuns) -> None:
    for epoch in (0, 1):
        logits, targets = noisy(50, 3, epoch)
        runs.put(logits, targets, run="a", epoch=epoch)
    same = compare_runs(runs, names=("a", "a"))
    assert (same["overlap"], same["rank_correlation"], same["num_common"]) == (1, 1, 50)
    assert (same["newly_hard"], same["resolved"], same["moves"]) == ([], [], [])
    across = compare_runs(runs, epochs=(0, 1), names=("a", "a"))
    assert (across["before"]["epoch"], across["after"]["epoch"]) == (0, 1)
    assert across["overlap"] < 1
    assert across["moves"]


def test_runs_without_common_examples_and_runs_without_rows(runs: TempRuns) -> None:
    empty = compare_runs(runs)
    assert (empty["num_common"], empty["top"], empty["overlap"], empty["rank_correlation"]) == (0, 0, None, None)
    runs.put([[0.0, 1, 2]], [1], ["x"], run="a")
    runs.put([[0.0, 1, 2]], [1], ["y"], run="b")
    result = compare_runs(runs)
    assert (result["num_common"], result["num_only_before"], result["num_only_after"]) == (0, 1, 1)
    assert (result["classes"], result["moves"], result["mean_loss_after"]) == ([], [], None)
    orjson.dumps(result)


def test_the_last_row_of_a_duplicate_id_counts_if_losses_are_equal(runs: TempRuns) -> None:
    runs.put([[0.0, 1, 1], [0.0, 2, 1]], [0, 0], ["y", "x"], run="a", batch="1")
    runs.put([[0.0, 1, 2]], [0], ["x"], run="a", batch="2")
    runs.put([[0.0, 1, 3], [0.0, 0, 0]], [0, 0], ["y", "x"], run="b")
    assert_equal(compare_runs(runs, 1), reference(runs, 1, (0, 0)))
    assert [(row["id"], row["prediction_before"]) for row in compare_runs(runs, 1)["resolved"]] == [("x", 2)]


def test_weights_that_do_not_fit_the_other_run_are_rejected(runs: TempRuns) -> None:
    runs.put([[0.0, 1, 2]], [1], ["x"], run="a")
    runs.put([[0.0, 1, 2, 3]], [3], ["x"], run="b")
    with pytest.raises(InvalidConfigError, match="run b 4 classes"):
        compare_runs(runs)
    result = compare_runs(runs, weighting=Weighting(None, 2.0))
    assert (result["num_common"], result["num_relabelled"]) == (1, 1)


def test_of_many_classes_those_with_the_largest_loss_are_compared(
    runs: TempRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, targets = noisy(200, 8, 3)
    for run in ("a", "b"):
        runs.put(logits, targets, run=run)
    plain = Weighting(None, 2.0)
    everything = compare_runs(runs, weighting=plain)["classes"]
    monkeypatch.setattr("service.diagnostics.compare.TABLE_CLASSES", 3)
    largest = sorted(everything, key=lambda row: row["count"] * row["mean_loss_after"])[-3:]
    assert compare_runs(runs, weighting=plain)["classes"] == sorted(largest, key=lambda row: row["class"])
