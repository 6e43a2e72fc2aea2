"""From ranked candidates to the rows of a queue: quotas of classes, caps of attribute values, no example twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import itemgetter
from typing import Any

import orjson

from service.mining.requests import AtMost

Row = dict[str, Any]
GROWTH = 16
NO_END = (float("inf"), 0)


@dataclass(frozen=True)
class Part:
    """The beginning of one ranking.

    Args:
        share: Of the queue.
        rows: In their order, each with its `place` in the whole ranking, from 1.
        ends: The last place of each class of which there may be more rows; under None that of all classes together.
    """

    share: float
    rows: Sequence[Row]
    ends: Mapping[int | None, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """Rows that a queue may take, as far as they are fetched.

    Args:
        rows: In their order; of each class those that come first.
        known: Among how many of them no row of any class is missing.
        cut: The classes of which there may be more, None for any.
    """

    rows: Sequence[Row]
    known: int
    cut: frozenset[int | None] = frozenset()


Fetch = Callable[[int], Candidates]


@dataclass(frozen=True)
class Rule:
    """Which of the candidates are taken.

    Args:
        budget: How many in all.
        reserved: How many places each class has for itself.
        open: Whether places that are left go to the best of any class.
        at_most: The cap of an attribute's values.
    """

    budget: int
    reserved: Mapping[int, int] = field(default_factory=dict)
    open: bool = True
    at_most: AtMost | None = None

    def choose(self, candidates: Candidates) -> list[Row]:
        """The rows taken, in the order of the candidates."""
        taken: dict[str, int] = {}
        classes: Counter[int] = Counter()
        values: Counter[bytes] = Counter()

        def take(place: int, row: Row) -> None:
            value = self._capped_value(row)
            capped = self.at_most is not None and value is not None and values[value] >= self.at_most.count
            if row["id"] not in taken and len(taken) < self.budget and not capped:
                taken[row["id"]] = place
                classes[row["target"]] += 1
                if value is not None:
                    values[value] += 1

        for place, row in enumerate(candidates.rows):
            if classes[row["target"]] < self.reserved.get(row["target"], 0):
                take(place, row)
        if self.open:
            for place, row in enumerate(candidates.rows[: candidates.known]):
                take(place, row)
        return [candidates.rows[place] for place in sorted(taken.values())]

    def _capped_value(self, row: Row) -> bytes | None:
        """The attribute as JSON: it may be a list, and 1 is not true."""
        value = None if self.at_most is None else row["attributes"].get(self.at_most.attribute)
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def is_met(self, chosen: Sequence[Row], candidates: Candidates) -> bool:
        """Whether more candidates could change nothing."""
        classes = Counter(row["target"] for row in chosen)
        unmet = {label for label, number in self.reserved.items() if classes[label] < number}
        return unmet.isdisjoint(candidates.cut) and (not self.open or len(chosen) == self.budget)


def select(rule: Rule, fetch: Fetch) -> tuple[list[Row], Candidates]:
    """The rows of a queue, from as few candidates as it takes, and these candidates.

    Args:
        rule: What to take.
        fetch: The first so many candidates: of each class, where the rule reserves places, else in all.
    """
    number = 2 * max(rule.reserved.values(), default=rule.budget) + 64
    while True:
        candidates = fetch(number)
        chosen = rule.choose(candidates)
        if not candidates.cut or rule.is_met(chosen, candidates):
            return chosen, candidates
        number *= GROWTH


def shared_out(budget: int, weights: Mapping[int, float], least: int = 0) -> dict[int, int]:
    """Whole places for each class by weight: largest remainders first, then the smaller class; `least` for each.

    Args:
        budget: How many in all.
        weights: Of each class; one of weight 0 gets nothing.
        least: For each class with a weight, before the rest is shared out.
    """
    present = {label: weight for label, weight in weights.items() if weight > 0}
    total, rest = sum(map(Fraction, present.values())), budget - least * len(present)
    if not present or rest < 0:
        return dict.fromkeys(present, budget // max(1, len(present)))
    # As fractions: equal remainders are equal then, whatever a double makes of them.
    exact = {label: rest * Fraction(weight) / total for label, weight in present.items()}
    places = {label: int(number) for label, number in exact.items()}
    by_remainder = sorted(present, key=lambda label: (places[label] - exact[label], label))
    for label in by_remainder[: rest - sum(places.values())]:
        places[label] += 1
    return {label: number + least for label, number in places.items()}


def interleaved(parts: Sequence[Part]) -> Candidates:
    """The rows of several rankings, each as often as its share in every beginning of the list.

    Where the rows of a class end that one ranking has given, those that others have beyond are left out: what is
    missing would come before them.
    """
    total = sum(part.share for part in parts)

    def position(number: int, place: int) -> tuple[float, int]:
        return (place - 0.5) * total / parts[number].share, number

    ends: dict[int | None, tuple[float, int]] = {}
    for number, part in enumerate(parts):
        for label, place in part.ends.items():
            ends[label] = min(ends.get(label, NO_END), position(number, place))
    placed = [(position(number, row["place"]), row) for number, part in enumerate(parts) for row in part.rows]
    without_gap = [(at, row) for at, row in sorted(placed, key=itemgetter(0)) if at <= ends.get(row["target"], NO_END)]
    first_end = min(ends.values(), default=NO_END)
    known = sum(at <= first_end for at, _ in without_gap)
    return Candidates([row for _, row in without_gap], known, frozenset(ends))
