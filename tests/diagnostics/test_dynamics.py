"""Statistics over epochs against plain Python and published cases; their bits depend on neither files nor threads."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.diagnostics.dynamics import COLUMNS, REGIONS, area_under_margin, dynamics_page
from service.errors import InvalidRequestError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.dynamics import Dynamics
from tests.lanes import mostly_slow
from tests.replies import assert_is
from tests.runs.temp_runs import Rows, TempRuns, noisy, scored, temp_runs
from tests.strategies import at_most

FOCAL = Weighting(None, 2.0)


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as store:
        store.create()
        yield store


def page(runs: TempRuns, run: str = "r", weighting: Weighting = FOCAL, **options: Any) -> Dynamics:
    result = runs.ask(lambda view: dynamics_page(view, weighting, **{"limit": 10_000} | options), run)
    assert_is(Dynamics, result)
    return result


def table(runs: TempRuns, run: str = "r", **options: Any) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in page(runs, run, **options)["rows"]}


def reference(rows: Rows) -> dict[str, dict[str, Any]]:
    """Compute the dynamics by their definitions, from rows with scores in the order of epoch, batch and row."""
    rows_of: defaultdict[str, Rows] = defaultdict(list)
    for row in rows:
        rows_of[row["id"]].append(row)
    result = {}
    for identity, course in rows_of.items():
        right = [row["prediction"] == row["target"] for row in course]
        confidence = statistics.fmean(row["p_t"] for row in course)
        variability = statistics.pstdev(row["p_t"] for row in course)
        first = next((row["epoch"] for row, is_right in zip(course, right, strict=True) if is_right), None)
        result[identity] = {
            "id": identity,
            "target": course[-1]["target"],
            "epochs": len(course),
            "confidence": confidence,
            "variability": variability,
            "correctness": sum(right),
            "threshold_closeness": confidence * (1 - confidence),
            "area_under_margin": statistics.fmean(row["logit_margin"] for row in course),
            "mean_loss": statistics.fmean(row["loss"] for row in course),
            "forgetting_events": sum(was and not now for was, now in pairwise(right)),
            "never_learned": not any(right),
            "first_learned": first,
            "region": region(confidence, variability),
        }
    return result


def region(confidence: float, variability: float) -> str:
    if variability >= 0.2:
        return "ambiguous"
    return "easy" if confidence >= 0.75 else "hard_to_learn" if confidence <= 0.25 else "between"


def assert_equal(result: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    assert result.keys() == expected.keys()
    for identity, row in expected.items():
        assert tuple(result[identity]) == COLUMNS
        for name, value in row.items():
            close = pytest.approx(value, abs=1e-8) if isinstance(value, float) else value
            assert result[identity][name] == close, (identity, name)


@pytest.mark.slow
@at_most(12, deadline=None)
@given(st.data())
def test_every_statistic_equals_its_definition(data: st.DataObject) -> None:
    """Examples are missing in epochs, occur twice in an epoch, and change their label."""
    epochs = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True))
    first = data.draw(st.none() | st.integers(1, 6))
    with temp_runs() as runs:
        runs.create({"gamma": 1.5, "alpha": [1, 3, 0.5]})
        for epoch in epochs:
            for batch in range(data.draw(st.integers(1, 2))):
                ids = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True))
                seed = data.draw(st.integers(0, 2**20))
                logits, targets = noisy(len(ids), 3, seed, spread=1)
                runs.put(logits, targets, ids, epoch=epoch, batch=f"b{batch}")
        weighting = runs.ask(lambda view: view.weighting())
        window = sorted(epochs)[:first]
        rows = [row for row in scored(runs.counted(), weighting.alpha, weighting.gamma) if row["epoch"] in window]
        result = page(runs, weighting=weighting, first=first)
        expected = reference(rows)
        assert_equal({row["id"]: row for row in result["rows"]}, expected)
        assert result["epochs"] == window
        alone = runs.ask(lambda view: view.rows(f"SELECT * FROM {area_under_margin(view, first)}"))
        assert {row["id"]: row["area_under_margin"] for row in alone} == {
            row["id"]: row["area_under_margin"] for row in result["rows"]
        }
        check_totals(result, expected)


def check_totals(result: dict[str, Any], expected: dict[str, dict[str, Any]]) -> None:
    rows, totals = list(expected.values()), result["summary"]
    assert result["num_matching"] == totals["num_examples"] == len(rows)
    assert totals["never_learned"] == sum(row["never_learned"] for row in rows)
    assert totals["forgotten"] == sum(row["forgetting_events"] > 0 for row in rows)
    for name in ("confidence", "variability", "area_under_margin"):
        assert totals[f"mean_{name}"] == pytest.approx(statistics.fmean(row[name] for row in rows), abs=1e-8)
    assert totals["regions"] == {name: sum(row["region"] == name for row in rows) for name in REGIONS}


def test_the_published_cases_of_the_area_under_the_margin(runs: TempRuns) -> None:
    """`test/test_aum.py` and the README of asappresearch/aum; its -3.02 is a misprint of -3.20."""
    runs.put([[1.0, 2, 3], [6, 5, 4]], [1, 0], ["a", "b"], epoch=0)
    assert [row["area_under_margin"] for row in table(runs).values()] == [-1, 1]
    runs.put([[9.0, 7, 8]], [0], ["b"], epoch=1)
    assert table(runs)["b"]["area_under_margin"] == 1
    runs.put([[7.0, 8, 9]], [2], ["a"], epoch=1, batch="second")
    assert table(runs)["a"]["area_under_margin"] == 0
    runs.create(run="readme")
    for epoch, (cat, dog) in enumerate([(1.26, -3.20), (1.15, -4.37)]):
        runs.put(np.float32([[cat, 0], [dog, 0]]), [0, 0], ["cat", "dog"], run="readme", epoch=epoch)
    result = table(runs, "readme")
    assert result["cat"]["area_under_margin"] == pytest.approx(1.205, abs=1e-6)
    assert result["dog"]["area_under_margin"] == pytest.approx(-3.785, abs=1e-6)


def learning_of(runs: TempRuns, run: str, right: dict[int, bool], first: int | None = None) -> tuple[Any, ...]:
    runs.create(run=run)
    for epoch, is_right in right.items():
        runs.put([[0.0, 1.0 if is_right else -1.0]], [1], ["x"], run=run, epoch=epoch)
    row = table(runs, run, first=first)["x"]
    return row["forgetting_events"], row["never_learned"], row["first_learned"], row["correctness"], row["epochs"]


def test_forgetting_by_hand(runs: TempRuns) -> None:
    yes, no = True, False
    assert learning_of(runs, "1", {0: no, 1: no}) == (0, True, None, 0, 2)
    assert learning_of(runs, "2", {0: yes, 1: yes}) == (0, False, 0, 2, 2)
    assert learning_of(runs, "3", {0: no, 1: yes, 2: no, 3: yes, 4: no}) == (2, False, 1, 2, 5)
    # Epochs without the example do not count: right in 1, wrong in 7.
    assert learning_of(runs, "4", {7: no, 1: yes, 9: no}) == (1, False, 1, 1, 3)
    assert learning_of(runs, "5", {0: yes, 1: no, 2: yes}, first=1) == (0, False, 0, 1, 1)
    assert learning_of(runs, "6", {3: no, 5: yes, 8: no}, first=2) == (0, False, 5, 1, 2)


def test_confidence_and_variability_by_hand(runs: TempRuns) -> None:
    odds = [math.log(p / (1 - p)) for p in (0.2, 0.4, 0.9)]
    for epoch, z in enumerate(odds):
        runs.put([[0.0, z]], [1], ["x"], epoch=epoch)
    row = table(runs)["x"]
    assert row["confidence"] == pytest.approx(0.5, abs=1e-7)
    assert row["variability"] == pytest.approx(math.sqrt(0.26 / 3), abs=1e-7)
    assert (row["threshold_closeness"], row["region"]) == (pytest.approx(0.25, abs=1e-7), "ambiguous")
    runs.create(run="same")
    for epoch in range(3):
        runs.put([[0.0, 1.1]], [1], ["x"], run="same", epoch=epoch)
    assert table(runs, "same")["x"]["variability"] == 0


def test_means_of_infinite_margins_and_huge_losses_are_finite(runs: TempRuns) -> None:
    runs.put([[0, -math.inf], [-3e38, 3e37]], [0, 0], ["sure", "lost"], epoch=0)
    runs.put([[0, 1.0], [0.0, 1.0]], [0, 0], ["sure", "lost"], epoch=1)
    result = table(runs, weighting=Weighting((1e10, 1.0), 0.0))
    assert result["sure"]["area_under_margin"] == (1e9 - 1) / 2
    assert result["lost"]["area_under_margin"] == (-1e9 - 1) / 2
    assert all(math.isfinite(row["mean_loss"]) for row in result.values())
    orjson.dumps(result)


@pytest.mark.slow
def test_bits_depend_on_neither_files_nor_order_nor_threads() -> None:
    data = [(epoch, *noisy(320, 4, epoch)) for epoch in range(2)]
    seen: list[list[Any]] = []
    with temp_runs() as runs:
        for layout in range(3):
            run = f"r{layout}"
            runs.create(run=run)
            for epoch, logits, targets in data[:: -1 if layout else 1]:
                step = (320, 10, 80)[layout]
                for start in range(0, 320, step):
                    part = slice(start, start + step)
                    names = [f"e{row}" for row in range(320)][part]
                    runs.put(logits[part], targets[part], names, run=run, epoch=epoch, batch=f"b{start:03d}")
            if layout == 1:
                assert runs.merge(0, run) == 32
            for threads in (1, 2, 5):

                def question(view: View, threads: int = threads) -> dict[str, Any]:
                    view.cursor.execute(f"SET threads = {threads}")
                    return dynamics_page(view, FOCAL, limit=10_000)

                result = runs.ask(question, run)
                seen.append([result["rows"], result["summary"]])
    assert len(seen) == 9
    assert all(pages == seen[0] for pages in seen)


@pytest.mark.parametrize("name", mostly_slow(COLUMNS, quick=4))
@pytest.mark.parametrize("sign", mostly_slow(["-", ""], quick=1))
def test_pages_are_sorted_by_any_column_with_nulls_last_then_by_id(shared: TempRuns, name: str, sign: str) -> None:
    rows = page(shared, sort="id")["rows"]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    valued = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=sign == "-")
    expected = [row["id"] for row in valued] + [row["id"] for row in rows if row[name] is None]
    parts = [page(shared, sort=sign + name, limit=17, offset=offset) for offset in range(0, 60, 17)]
    assert [row["id"] for part in parts for row in part["rows"]] == expected
    assert {part["num_matching"] for part in parts} == {60}


def test_pages_are_sorted_by_several_columns(shared: TempRuns) -> None:
    rows = page(shared, sort="-region,epochs,-confidence")["rows"]
    assert rows == sorted(sorted(rows, key=lambda row: -row["confidence"]), key=lambda row: row["region"], reverse=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[TempRuns]:
    with temp_runs() as store:
        store.create()
        for epoch in range(3):
            logits, targets = noisy(60, 3, epoch)
            store.put(logits, targets, epoch=epoch)
        yield store


@pytest.mark.parametrize("name", REGIONS)
def test_pages_of_one_region(shared: TempRuns, name: str) -> None:
    rows = [row for row in page(shared)["rows"] if row["region"] == name]
    result = page(shared, region=name)
    assert result["rows"] == rows
    assert rows
    assert result["num_matching"] == len(rows)
    assert result["summary"]["num_examples"] == 60


def test_unknown_names_are_rejected_and_an_empty_run_has_no_rows(runs: TempRuns) -> None:
    for sort in ("loss", "--id", "id; DROP"):
        with pytest.raises(InvalidRequestError, match=f"'{sort.removeprefix('-')}'; known are id, target"):
            page(runs, sort=sort)
    result = page(runs)
    assert (result["rows"], result["epochs"], result["num_matching"]) == ([], [], 0)
    assert result["summary"]["mean_confidence"] is None
    assert result["summary"]["regions"] == dict.fromkeys(REGIONS, 0)


def test_the_map_counts_every_example_in_its_cell(shared: TempRuns) -> None:
    rows = page(shared)["rows"]
    for bins in (1, 3, 40):
        shares_of: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
        for row in rows:
            cell = (min(int(row["confidence"] * bins), bins - 1), min(int(row["variability"] * 2 * bins), bins - 1))
            shares_of[cell].append(row["correctness"] / row["epochs"])
        result = page(shared, bins=bins, limit=0)
        assert result["rows"] == []
        assert [(cell["confidence"], cell["variability"]) for cell in result["map"]] == [
            (pytest.approx((x + 0.5) / bins), pytest.approx((y + 0.5) / bins / 2)) for x, y in sorted(shares_of)
        ]
        assert [cell["count"] for cell in result["map"]] == [len(shares_of[cell]) for cell in sorted(shares_of)]
        means = [statistics.fmean(shares_of[cell]) for cell in sorted(shares_of)]
        assert [cell["correctness"] for cell in result["map"]] == pytest.approx(means)
    assert "map" not in page(shared)
