"""Selection from batches of candidates, compared with a scan of all; apportionment to classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from service.mining.selection import Candidates, Rule, apportion, select
from tests.strategies import at_most

VALUES = (None, "x", "y", 1, True, 1.0, [1, 2], {"k": 1})
SCHEMA = pa.schema({"id": pa.string(), "unit": pa.int32(), "counted_class": pa.int32(), "capped": pa.string()})
Row = dict[str, Any]


def exhaustive(rule: Rule, candidates: list[Row]) -> list[Row]:
    """First the reserved places of each class, with refill then any class; nothing twice, no value over its cap."""
    chosen: list[int] = []

    def may(place: int) -> bool:
        if len(chosen) >= rule.budget or any(_key(candidates[i]) == _key(candidates[place]) for i in chosen):
            return False
        if rule.at_most is None:
            return True
        value = candidates[place]["group"]
        spelled = [json.dumps(candidates[i]["group"]) for i in chosen]
        return value is None or spelled.count(json.dumps(value)) < rule.at_most

    for place, row in enumerate(candidates):
        of_class = sum(candidates[i]["target"] == row["target"] for i in chosen)
        if of_class < rule.reserved.get(row["target"], 0) and may(place):
            chosen.append(place)
    for place in range(len(candidates)) if rule.refill else ():
        if may(place):
            chosen.append(place)
    return [candidates[place] for place in sorted(chosen)]


def _key(row: Row) -> tuple[str, int | None]:
    return row["id"], row.get("unit")


def batches(rule: Rule, rows: list[Row], size: int = 10) -> Candidates:
    """The candidates in batches, as a run returns them: an example without the attribute has an empty text or none."""
    texts = [None if row["group"] is None else orjson.dumps(row["group"]).decode() for row in rows]
    texts = [
        text if text is not None or index % 2 else ("", "null")[index // 2 % 2] for index, text in enumerate(texts)
    ]
    columns = {
        "id": [row["id"] for row in rows],
        "unit": [row.get("unit") for row in rows],
        "counted_class": [row["target"] for row in rows],
        "capped": texts if rule.at_most is not None else [None] * len(rows),
    }
    table = pa.table(columns, SCHEMA)

    def candidates() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], SCHEMA)
        yield from table.to_batches(size)

    return candidates


def chosen_ids(rule: Rule, rows: list[Row], size: int = 10) -> list[str]:
    table = select(rule, batches(rule, rows, size))
    assert [rows[place]["id"] for place in table["place"].to_pylist()] == table["id"].to_pylist()
    return list(table["id"].to_pylist())


@st.composite
def ranked_rows(draw: st.DrawFn) -> list[Row]:
    """Candidates, many of one class or with one value of the attribute; a mix has an example or unit more than once."""
    unit = st.sampled_from((None, 0, 1))
    examples = draw(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(VALUES), st.booleans(), unit), min_size=0, max_size=60)
    )
    rows = [
        {"id": f"e{place // 2 if twin else place}", "unit": number, "target": label, "group": value}
        for place, (label, value, twin, number) in enumerate(examples)
    ]
    head = draw(st.integers(0, 60))
    return [{"id": f"h{place}", "target": 0, "group": "h"} for place in range(head)] + rows


rules = st.builds(
    Rule,
    budget=st.integers(1, 40),
    reserved=st.just({}) | st.dictionaries(st.integers(0, 3), st.integers(0, 10), min_size=1),
    refill=st.booleans(),
    at_most=st.none() | st.integers(1, 3),
)


@at_most(200, deadline=None)
@given(ranked_rows(), rules, st.integers(1, 50))
def test_batches_give_the_same_rows_as_a_scan_of_all(rows: list[Row], rule: Rule, size: int) -> None:
    rule = Rule(max(rule.budget, sum(rule.reserved.values())), rule.reserved, rule.refill, rule.at_most)
    assert chosen_ids(rule, rows, size) == [row["id"] for row in exhaustive(rule, rows)]


def rows_of(*labels: int, group: Any = None) -> list[Row]:
    return [{"id": f"{place}", "target": label, "group": group} for place, label in enumerate(labels)]


def test_a_pass_ends_with_its_last_row() -> None:
    def candidates() -> Iterator[pa.RecordBatch]:
        yield from batches(rule, rows_of(0, 1, 0, 0), 2)()
        raise AssertionError("read beyond the last row")

    for rule in (Rule(4), Rule(4, {0: 1, 1: 1}), Rule(3, {0: 2, 1: 1}, refill=False)):
        assert len(select(rule, candidates)) == rule.budget


def test_a_rule_without_quotas_and_caps_needs_the_first_rows_of_a_ranking_only() -> None:
    assert Rule(7).rows_of_a_ranking == 7
    assert Rule(7, {0: 1}).rows_of_a_ranking is None
    assert Rule(7, at_most=1).rows_of_a_ranking is None


def test_quotas_are_filled_first_and_the_rest_is_refilled_by_rank_or_left_empty() -> None:
    rows = rows_of(0, 0, 0, 0, 1, 0, 2)
    assert chosen_ids(Rule(3, {0: 1, 1: 1, 2: 1}), rows) == ["0", "4", "6"]
    assert chosen_ids(Rule(5, {1: 2, 2: 1}), rows) == ["0", "1", "2", "4", "6"]
    assert chosen_ids(Rule(5, {1: 2, 2: 1}, refill=False), rows) == ["4", "6"]
    assert chosen_ids(Rule(5, {}, refill=False), rows) == []


def test_values_are_compared_as_json_and_rows_without_a_value_are_not_capped() -> None:
    rows = [{"id": str(place), "target": 0, "group": value} for place, value in enumerate((*VALUES, *VALUES))]
    expected = ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
    assert chosen_ids(Rule(100, at_most=1), rows) == expected


@given(
    st.integers(0, 60),
    st.dictionaries(st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0, 1e6]), max_size=6),
    st.integers(0, 4),
)
def test_rows_are_apportioned_by_largest_remainders(budget: int, weights: dict[int, float], least: int) -> None:
    present = sorted(label for label, weight in weights.items() if weight)
    result = apportion(budget, weights, least)
    assert sorted(result) == present
    if least * len(present) > budget or not present:
        return
    total, rest = sum(map(Fraction, weights.values())), budget - least * len(present)
    exact = {label: Fraction(weights[label]) * rest / total for label in present}
    remainders = sorted(present, key=lambda label: (int(exact[label]) - exact[label], label))
    up = set(remainders[: rest - sum(map(int, exact.values()))])
    assert result == {label: least + int(exact[label]) + (label in up) for label in present}
    assert sum(result.values()) == budget


def test_apportionment_by_hand() -> None:
    assert apportion(10, {0: 1, 1: 1, 2: 1}) == {0: 4, 1: 3, 2: 3}
    assert apportion(10, {0: 90, 1: 9, 2: 1}, least=1) == {0: 7, 1: 2, 2: 1}
    assert apportion(2, {0: 1, 1: 1, 2: 1}) == {0: 1, 1: 1, 2: 0}
    # All remainders are 0.4 (as doubles, that of 2.4 would be smaller): the smaller class comes first.
    assert apportion(4, {0: 1, 1: 6, 2: 1, 3: 1, 4: 1}) == {0: 1, 1: 3, 2: 0, 3: 0, 4: 0}
    assert apportion(5, {}) == {}
