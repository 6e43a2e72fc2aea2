"""Selection from few candidates, compared with selection from all; apportionment to classes and strategies."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mining.requests import AtMost
from service.mining.selection import Candidates, Part, Rule, apportion, interleave, select
from tests.strategies import at_most

VALUES = (None, "x", "y", 1, True, 1.0, [1, 2], {"k": 1})
Row = dict[str, Any]
Ranked = list[tuple[float, list[Row]]]


def interleave_all(parts: Ranked) -> list[Row]:
    """All rows of all rankings: the n-th row of a ranking is in the middle of the n-th part of its share."""
    total = sum(share for share, _ in parts)
    placed = [
        (((place + 0.5) * total / share, number), row)
        for number, (share, rows) in enumerate(parts)
        for place, row in enumerate(rows)
    ]
    return [row for _, row in sorted(placed, key=lambda entry: entry[0])]


def exhaustive(rule: Rule, candidates: list[Row]) -> list[Row]:
    """First the reserved places of each class, with refill then any class; no example twice, no value over its cap."""
    chosen: list[int] = []

    def may(place: int) -> bool:
        if len(chosen) >= rule.budget or any(candidates[i]["id"] == candidates[place]["id"] for i in chosen):
            return False
        if rule.at_most is None:
            return True
        value = candidates[place]["attributes"].get(rule.at_most.attribute)
        spelled = [json.dumps(candidates[i]["attributes"].get(rule.at_most.attribute)) for i in chosen]
        return value is None or spelled.count(json.dumps(value)) < rule.at_most.count

    for place, row in enumerate(candidates):
        of_class = sum(candidates[i]["target"] == row["target"] for i in chosen)
        if of_class < rule.reserved.get(row["target"], 0) and may(place):
            chosen.append(place)
    for place in range(len(candidates)) if rule.refill else ():
        if may(place):
            chosen.append(place)
    return [candidates[place] for place in sorted(chosen)]


class Source:
    """Returns the first candidates of rankings, as a run does."""

    def __init__(self, parts: Ranked, *, of_each_class: bool) -> None:
        self.parts, self.of_each_class, self.last_number = parts, of_each_class, 0

    def fetch(self, number: int) -> Candidates:
        self.last_number = number
        return interleave([self.part(share, rows, number) for share, rows in self.parts])

    def part(self, share: float, rows: list[Row], number: int) -> Part:
        placed = [row | {"place": place} for place, row in enumerate(rows, start=1)]
        if not self.of_each_class:
            return Part(share, placed[:number], {None: number} if len(placed) >= number else {})
        seen: Counter[int] = Counter()
        first, ends = [], {}
        for row in placed:
            seen[row["target"]] += 1
            if seen[row["target"]] <= number:
                first.append(row)
            if seen[row["target"]] == number:
                ends[row["target"]] = row["place"]
        return Part(share, first, ends)


@st.composite
def rankings(draw: st.DrawFn) -> Ranked:
    """Up to three rankings of the same examples; many have one class or one value of an attribute, and ids repeat."""
    examples = draw(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(VALUES), st.booleans()), min_size=0, max_size=60)
    )
    rows = [
        {"id": f"e{place // 2 if twin else place}", "target": label, "attributes": {"group": value}}
        for place, (label, value, twin) in enumerate(examples)
    ]
    # A long prefix of one class and one group, so that few candidates are not enough.
    head = draw(st.integers(0, 60))
    rows = [{"id": f"h{place}", "target": 0, "attributes": {"group": "h"}} for place in range(head)] + rows
    shares = draw(st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=3))
    orders = [draw(st.sampled_from([rows, rows[::-1], rows[::2] + rows[1::2]])) for _ in shares]
    return [(share, order[: draw(st.integers(0, 120))]) for share, order in zip(shares, orders, strict=True)]


rules = st.builds(
    Rule,
    budget=st.integers(1, 40),
    reserved=st.just({}) | st.dictionaries(st.integers(0, 3), st.integers(0, 10), min_size=1),
    refill=st.booleans(),
    at_most=st.none() | st.builds(AtMost, attribute=st.just("group"), count=st.integers(1, 3)),
)


@at_most(200, deadline=None)
@given(rankings(), rules, st.integers(1, 9), st.integers(2, 4))
def test_few_candidates_give_the_same_rows_as_all(parts: Ranked, rule: Rule, first: int, growth: int) -> None:
    budget = max(rule.budget, sum(rule.reserved.values()))
    rule = Rule(budget, rule.reserved, rule.refill, rule.at_most)
    expected = exhaustive(rule, interleave_all(parts))
    source, number = Source(parts, of_each_class=bool(rule.reserved)), first
    while True:  # `select`, starting with far too few candidates
        candidates = source.fetch(number)
        chosen = rule.choose(candidates)
        if not candidates.incomplete or rule.is_met(chosen, candidates):
            break
        number *= growth
    assert [row["id"] for row in chosen] == [row["id"] for row in expected]
    assert [row["target"] for row in chosen] == [row["target"] for row in expected]
    result, _ = select(rule, source.fetch)
    assert [row["id"] for row in result] == [row["id"] for row in expected]


def rows_of(*labels: int, group: Any = None) -> list[Row]:
    return [{"id": f"{place}", "target": label, "attributes": {"group": group}} for place, label in enumerate(labels)]


def test_a_cap_on_one_ranking_does_not_move_rows_of_another_ranking_forward() -> None:
    head = rows_of(*[0] * 5000, group="same")
    tail = [{"id": f"t{place}", "target": 0, "attributes": {"group": f"t{place}"}} for place in range(2000)]
    small = [{"id": f"s{place}", "target": 1, "attributes": {"group": f"s{place}"}} for place in range(9000)]
    parts = [(0.9, head + tail), (0.1, small)]
    rule = Rule(1000, at_most=AtMost(attribute="group", count=1))
    chosen, _ = select(rule, Source(parts, of_each_class=False).fetch)
    assert [row["id"] for row in chosen] == [row["id"] for row in exhaustive_fast(interleave_all(parts), 1000)]


def exhaustive_fast(candidates: list[Row], budget: int) -> list[Row]:
    seen: dict[str, Row] = {}
    for row in candidates:
        seen.setdefault(row["attributes"]["group"], row)
    return list(seen.values())[:budget]


def test_a_class_with_fewer_rows_than_its_quota_does_not_fetch_all_candidates() -> None:
    rows = rows_of(*([0] * 5_000 + [1] * 3))
    source = Source([(1.0, rows)], of_each_class=True)
    chosen, _ = select(Rule(20, {0: 10, 1: 10}), source.fetch)
    assert Counter(row["target"] for row in chosen) == {0: 17, 1: 3}
    assert source.last_number == 2 * 10 + 64


def test_rows_do_not_take_the_place_of_better_rows_that_are_not_fetched_yet() -> None:
    rows = rows_of(*[0] * 50, *[1] * 5)
    source, rule = Source([(1.0, rows)], of_each_class=True), Rule(4, {1: 1})
    few = source.fetch(2)
    assert [row["id"] for row in few.rows] == ["0", "1", "50", "51"]
    assert (few.num_complete, few.incomplete) == (2, {0, 1})
    assert not rule.is_met(rule.choose(few), few)
    assert [row["id"] for row in select(rule, source.fetch)[0]] == ["0", "1", "2", "50"]


def test_quotas_are_filled_first_and_the_rest_is_refilled_by_rank_or_left_empty() -> None:
    rows = rows_of(0, 0, 0, 0, 1, 0, 2)
    candidates = Candidates(rows, len(rows))
    assert [row["id"] for row in Rule(3, {0: 1, 1: 1, 2: 1}).choose(candidates)] == ["0", "4", "6"]
    assert [row["id"] for row in Rule(5, {1: 2, 2: 1}).choose(candidates)] == ["0", "1", "2", "4", "6"]
    assert [row["id"] for row in Rule(5, {1: 2, 2: 1}, refill=False).choose(candidates)] == ["4", "6"]
    assert Rule(5, {}, refill=False).choose(candidates) == []


def test_values_are_compared_as_json_and_rows_without_a_value_are_not_capped() -> None:
    rows = [{"id": str(place), "target": 0, "attributes": {"g": value}} for place, value in enumerate(VALUES * 2)]
    rows += [{"id": f"n{place}", "target": 0, "attributes": {}} for place in range(3)]
    chosen = Rule(100, at_most=AtMost(attribute="g", count=1)).choose(Candidates(rows, len(rows)))
    assert [row["id"] for row in chosen] == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "n0", "n1", "n2"]


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


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.9, 0.1), (3, 2, 1), (0.7, 0.2, 0.1)])
def test_every_prefix_of_a_mix_has_each_strategy_by_its_share(shares: tuple[float, ...]) -> None:
    parts = [
        Part(share, [{"id": f"{number}-{place}", "target": number, "place": place} for place in range(1, 201)])
        for number, share in enumerate(shares)
    ]
    result = interleave(parts)
    assert result.num_complete == len(result.rows) == 200 * len(shares)
    so_far: Counter[int] = Counter()
    for length, row in enumerate(result.rows[:200], start=1):
        so_far[row["target"]] += 1
        for number, share in enumerate(shares):
            assert abs(so_far[number] - length * share / sum(shares)) < 1, (length, number)
    for number in range(len(shares)):
        places = [row["place"] for row in result.rows if row["target"] == number]
        assert places == list(range(1, 201))
