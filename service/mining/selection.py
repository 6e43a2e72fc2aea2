"""Selection of the rows of a queue from ranked candidates: class quotas, caps on attributes, no example twice."""

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
    """A row that a queue may take, with its place in the ranking, from 1."""

    place: int


@dataclass(frozen=True)
class Part:
    """The first rows of one ranking.

    Args:
        share: Share of the ranking in the queue.
        rows: Rows in the order of the ranking.
        ends: Last place with a row of the class, for each class that may have further rows; None stands for all
            classes.
    """

    share: float
    rows: Sequence[Candidate]
    ends: Mapping[int | None, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """The candidates that were fetched so far.

    Args:
        rows: The first rows of each class, in order.
        num_complete: Length of the prefix of `rows` into which no row belongs that was not fetched.
        incomplete: Classes that may have further rows; None stands for any class.
    """

    rows: Sequence[Candidate]
    num_complete: int
    incomplete: frozenset[int | None] = frozenset()


Fetch = Callable[[int], Candidates]


@dataclass(frozen=True)
class Rule:
    """The quotas and caps by which a queue takes candidates.

    Args:
        budget: Number of rows.
        reserved: Number of rows that are reserved for each class.
        refill: True to fill the rest of the budget with the first candidates of any class.
        at_most: Cap on the rows with one value of an attribute.
    """

    budget: int
    reserved: Mapping[int, int] = field(default_factory=dict)
    refill: bool = True
    at_most: AtMost | None = None

    def choose(self, candidates: Candidates) -> list[Candidate]:
        """Choose rows; they keep the order of the candidates."""
        indices: dict[str, int] = {}
        classes: Counter[int] = Counter()
        values: Counter[bytes] = Counter()

        def take(index: int, row: Candidate) -> None:
            value = self._capped_value(row)
            capped = self.at_most is not None and value is not None and values[value] >= self.at_most.count
            if row["id"] not in indices and len(indices) < self.budget and not capped:
                indices[row["id"]] = index
                classes[row["target"]] += 1
                if value is not None:
                    values[value] += 1

        for index, row in enumerate(candidates.rows):
            if classes[row["target"]] < self.reserved.get(row["target"], 0):
                take(index, row)
        if self.refill:
            for index, row in enumerate(candidates.rows[: candidates.num_complete]):
                take(index, row)
        return [candidates.rows[index] for index in sorted(indices.values())]

    def _capped_value(self, row: Candidate) -> bytes | None:
        """The value of the capped attribute as JSON: lists are comparable then, and 1 and true differ."""
        value = None if self.at_most is None else row["attributes"].get(self.at_most.attribute)
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def is_met(self, chosen: Sequence[Candidate], candidates: Candidates) -> bool:
        """True if further candidates would not change the chosen rows."""
        classes = Counter(row["target"] for row in chosen)
        unmet = {label for label, number in self.reserved.items() if classes[label] < number}
        return unmet.isdisjoint(candidates.incomplete) and (not self.refill or len(chosen) == self.budget)


def select(rule: Rule, fetch: Fetch) -> tuple[list[Candidate], Candidates]:
    """Choose the rows of a queue from few candidates, and return the rows and the candidates.

    Args:
        rule: Quotas and caps of the queue.
        fetch: Returns the first n candidates: n of each class if the rule reserves rows, else n in all.
    """
    number = 2 * max(rule.reserved.values(), default=rule.budget) + 64
    while True:
        candidates = fetch(number)
        chosen = rule.choose(candidates)
        if not candidates.incomplete or rule.is_met(chosen, candidates):
            return chosen, candidates
        number *= GROWTH


def apportion(budget: int, weights: Mapping[int, float], least: int = 0) -> dict[int, int]:
    """Apportion the rows of a queue to classes by weight, by the largest remainder method.

    Of two equal remainders, that of the smaller class number comes first.

    Args:
        budget: Number of rows.
        weights: Weight of each class, >= 0; a class of weight 0 gets no row.
        least: Number of rows that each class with a positive weight gets before the others are apportioned.
    """
    positive = {label: weight for label, weight in weights.items() if weight > 0}
    total, rest = sum(map(Fraction, positive.values())), budget - least * len(positive)
    if not positive or rest < 0:
        return dict.fromkeys(positive, budget // max(1, len(positive)))
    # Doubles would round equal remainders to different numbers.
    exact = {label: rest * Fraction(weight) / total for label, weight in positive.items()}
    rows = {label: int(number) for label, number in exact.items()}
    by_remainder = sorted(positive, key=lambda label: (rows[label] - exact[label], label))
    for label in by_remainder[: rest - sum(rows.values())]:
        rows[label] += 1
    return {label: number + least for label, number in rows.items()}


def interleave(parts: Sequence[Part]) -> Candidates:
    """Interleave rankings so that every prefix of the list has rows of each ranking by its share.

    If a ranking may have further rows of a class, the list leaves out rows of that class after its last fetched one:
    the rows that were not fetched would come before them.
    """
    total = sum(part.share for part in parts)

    def position(number: int, place: int) -> tuple[float, int]:
        return (place - 0.5) * total / parts[number].share, number

    ends: dict[int | None, tuple[float, int]] = {}
    for number, part in enumerate(parts):
        for label, place in part.ends.items():
            ends[label] = min(ends.get(label, NO_END), position(number, place))
    placed = [(position(number, row["place"]), row) for number, part in enumerate(parts) for row in part.rows]
    complete = [(at, row) for at, row in sorted(placed, key=itemgetter(0)) if at <= ends.get(row["target"], NO_END)]
    first_end = min(ends.values(), default=NO_END)
    num_complete = sum(at <= first_end for at, _ in complete)
    return Candidates([row for _, row in complete], num_complete, frozenset(ends))
