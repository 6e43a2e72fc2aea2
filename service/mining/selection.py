"""Choosing the rows of a queue from ranked candidates: quotas of classes, caps of attributes, no example twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import itemgetter

import orjson

from service.mining.requests import AtMost
from service.schema.replies.queues import QueueRow

GROWTH = 16
NO_END = (float("inf"), 0)


class Candidate(QueueRow, total=False):
    """A row that a queue may take, with its place in its ranking, from 1."""

    place: int


@dataclass(frozen=True)
class Part:
    """The beginning of one ranking.

    Args:
        share: Share of the queue.
        rows: In the order of the ranking.
        ends: For each class that may have more rows, the last place with a row of it; None stands for all classes.
    """

    share: float
    rows: Sequence[Candidate]
    ends: Mapping[int | None, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """The candidates that were fetched so far.

    Args:
        rows: In order; the first rows of each class.
        known: Number of rows from the start among which no row of any class is missing.
        cut: Classes that may have more rows; None stands for any class.
    """

    rows: Sequence[Candidate]
    known: int
    cut: frozenset[int | None] = frozenset()


Fetch = Callable[[int], Candidates]


@dataclass(frozen=True)
class Rule:
    """The rule by which a queue takes candidates.

    Args:
        budget: Number of rows.
        reserved: Number of places that are reserved for each class.
        refill: True to give the places that are left to the first candidates of any class.
        at_most: Cap on the rows with one value of an attribute.
    """

    budget: int
    reserved: Mapping[int, int] = field(default_factory=dict)
    refill: bool = True
    at_most: AtMost | None = None

    def choose(self, candidates: Candidates) -> list[Candidate]:
        """Choose rows; they keep the order of the candidates."""
        places: dict[str, int] = {}
        classes: Counter[int] = Counter()
        values: Counter[bytes] = Counter()

        def take(place: int, row: Candidate) -> None:
            value = self._capped_value(row)
            capped = self.at_most is not None and value is not None and values[value] >= self.at_most.count
            if row["id"] not in places and len(places) < self.budget and not capped:
                places[row["id"]] = place
                classes[row["target"]] += 1
                if value is not None:
                    values[value] += 1

        for place, row in enumerate(candidates.rows):
            if classes[row["target"]] < self.reserved.get(row["target"], 0):
                take(place, row)
        if self.refill:
            for place, row in enumerate(candidates.rows[: candidates.known]):
                take(place, row)
        return [candidates.rows[place] for place in sorted(places.values())]

    def _capped_value(self, row: Candidate) -> bytes | None:
        """The value of the capped attribute as JSON, since it may be a list, and since 1 and true differ."""
        value = None if self.at_most is None else row["attributes"].get(self.at_most.attribute)
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def is_met(self, chosen: Sequence[Candidate], candidates: Candidates) -> bool:
        """True if further candidates would not change the chosen rows."""
        classes = Counter(row["target"] for row in chosen)
        unmet = {label for label, number in self.reserved.items() if classes[label] < number}
        return unmet.isdisjoint(candidates.cut) and (not self.refill or len(chosen) == self.budget)


def select(rule: Rule, fetch: Fetch) -> tuple[list[Candidate], Candidates]:
    """Choose the rows of a queue from as few candidates as possible; returns these candidates too.

    Args:
        rule: The rule to follow.
        fetch: Returns the first n candidates: n of each class if the rule reserves places, else n in all.
    """
    number = 2 * max(rule.reserved.values(), default=rule.budget) + 64
    while True:
        candidates = fetch(number)
        chosen = rule.choose(candidates)
        if not candidates.cut or rule.is_met(chosen, candidates):
            return chosen, candidates
        number *= GROWTH


def shared_out(budget: int, weights: Mapping[int, float], least: int = 0) -> dict[int, int]:
    """Share out a number of places to the classes by weight; the largest remainders are rounded up.

    Of equal remainders that of the smaller class number comes first.

    Args:
        budget: Number of places.
        weights: Weight of each class; a class of weight 0 gets no place.
        least: Number of places that each class with a weight gets before the rest is shared out.
    """
    present = {label: weight for label, weight in weights.items() if weight > 0}
    total, rest = sum(map(Fraction, present.values())), budget - least * len(present)
    if not present or rest < 0:
        return dict.fromkeys(present, budget // max(1, len(present)))
    # As fractions, since doubles would round equal remainders to different numbers.
    exact = {label: rest * Fraction(weight) / total for label, weight in present.items()}
    places = {label: int(number) for label, number in exact.items()}
    by_remainder = sorted(present, key=lambda label: (places[label] - exact[label], label))
    for label in by_remainder[: rest - sum(places.values())]:
        places[label] += 1
    return {label: number + least for label, number in places.items()}


def interleaved(parts: Sequence[Part]) -> Candidates:
    """Interleave several rankings, so that every prefix of the list has rows of each ranking by its share.

    If a ranking may have more rows of a class than were fetched, rows of that class behind its last one are left out:
    the missing rows would come before them.
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
