"""From ranked candidates to the rows of a queue: quotas of classes, caps of attribute values, no example twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.mining.requests import AtMost

Row = dict[str, Any]
Fetch = Callable[[int], tuple[Sequence[Row], bool]]
GROWTH = 16


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

    def choose(self, candidates: Sequence[Row]) -> list[Row]:
        """The rows taken, in the order of the candidates."""
        taken: dict[str, int] = {}
        classes: Counter[int] = Counter()
        values: Counter[Any] = Counter()

        def take(place: int, row: Row) -> None:
            value = None if self.at_most is None else row["attributes"].get(self.at_most.attribute)
            capped = self.at_most is not None and value is not None and values[value] >= self.at_most.count
            if row["id"] not in taken and len(taken) < self.budget and not capped:
                taken[row["id"]] = place
                classes[row["target"]] += 1
                values[value] += 1

        for place, row in enumerate(candidates):
            if classes[row["target"]] < self.reserved.get(row["target"], 0):
                take(place, row)
        if self.open:
            for place, row in enumerate(candidates):
                take(place, row)
        return [candidates[place] for place in sorted(taken.values())]

    def is_met(self, chosen: Sequence[Row]) -> bool:
        """Whether more candidates could change nothing."""
        classes = Counter(row["target"] for row in chosen)
        reserved = all(classes[label] >= number for label, number in self.reserved.items())
        return reserved and (not self.open or len(chosen) == self.budget)


def select(rule: Rule, fetch: Fetch) -> list[Row]:
    """The rows of a queue, from as few candidates as it takes.

    Args:
        rule: What to take.
        fetch: The first so many candidates, and whether these are all.
    """
    number = 2 * rule.budget + 64
    while True:
        candidates, complete = fetch(number)
        chosen = rule.choose(candidates)
        if complete or rule.is_met(chosen):
            return chosen
        number *= GROWTH


def shared_out(budget: int, weights: Mapping[int, float], least: int = 0) -> dict[int, int]:
    """Whole places for each class by weight: largest remainders first, then the smaller class; `least` for each.

    Args:
        budget: How many in all.
        weights: Of each class; one of weight 0 gets nothing.
        least: For each class with a weight, before the rest is shared out.
    """
    present = {label: weight for label, weight in weights.items() if weight > 0}
    total, rest = sum(present.values()), budget - least * len(present)
    if not present or rest < 0:
        return dict.fromkeys(present, budget // max(1, len(present)))
    exact = {label: rest * weight / total for label, weight in present.items()}
    places = {label: int(number) for label, number in exact.items()}
    by_remainder = sorted(present, key=lambda label: (places[label] - exact[label], label))
    for label in by_remainder[: rest - sum(places.values())]:
        places[label] += 1
    return {label: number + least for label, number in places.items()}


def interleaved(parts: Sequence[tuple[float, Sequence[Row]]]) -> list[Row]:
    """The rows of several rankings, each as often as its share in every beginning of the list.

    Args:
        parts: The share and the rows of each.
    """
    total = sum(share for share, _ in parts)
    placed = [
        ((position + 0.5) * total / share, number, row)
        for number, (share, rows) in enumerate(parts)
        for position, row in enumerate(rows)
    ]
    return [row for _, _, row in sorted(placed, key=lambda entry: entry[:2])]
