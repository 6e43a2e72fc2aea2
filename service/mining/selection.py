"""Selection of the rows of a queue from ranked candidates: class quotas, caps, no example or unit twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import orjson
import pyarrow as pa

Candidates = Callable[[], Iterable[pa.RecordBatch]]
"""Each call starts another pass over the same candidates, best first, in at least one batch.

The columns are `id`, `unit` (its number, null for a whole example), `counted_class` (the class that quotas count),
`capped` (the value of the capped attribute as a JSON text), and others.
"""


@dataclass(frozen=True)
class Rule:
    """The quotas and caps by which a queue takes candidates.

    Args:
        budget: Number of rows.
        reserved: Number of rows that are reserved for each class.
        refill: True to fill the rest of the budget with the first candidates of any class.
        at_most: Cap on the rows with one value of the capped attribute; None for no cap.
    """

    budget: int
    reserved: Mapping[int, int] = field(default_factory=dict)
    refill: bool = True
    at_most: int | None = None

    @property
    def rows_of_a_ranking(self) -> int | None:
        """Number of first rows of each ranking that the choice depends on; None for all."""
        return None if self.reserved or self.at_most is not None else self.budget


def select(rule: Rule, candidates: Candidates) -> pa.Table:
    """Choose the rows of a queue; memory grows with the budget and not with the candidates.

    Args:
        rule: Quotas and caps of the queue.
        candidates: Starts a pass.

    Returns:
        The chosen candidates in their order, with all columns and `place`, their place among the candidates, from 0.
    """
    choice = _Choice(rule)
    if rule.reserved or not rule.refill:
        choice.take(candidates(), is_reserved=True)
    if rule.refill:
        choice.take(candidates(), is_reserved=False)
    return choice.rows()


class _Choice:
    """The rows that were chosen so far."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._keys: set[tuple[str, int | None]] = set()
        self._classes: Counter[int] = Counter()
        self._values: Counter[str] = Counter()
        self._parts: list[pa.Table] = []

    def take(self, batches: Iterable[pa.RecordBatch], *, is_reserved: bool) -> None:
        """Take candidates for the reserved rows, or of any class."""
        first = 0
        for batch in batches:
            chosen = np.fromiter(self._chosen(batch, is_reserved=is_reserved), np.int64)
            places = pa.array(chosen + first)
            self._parts.append(pa.table(batch.take(pa.array(chosen))).append_column("place", places))
            first += len(batch)
            if self._is_done(is_reserved=is_reserved):
                return

    def _chosen(self, batch: pa.RecordBatch, *, is_reserved: bool) -> Iterator[int]:
        columns = (batch[name].to_pylist() for name in ("id", "unit", "counted_class", "capped"))
        for index, (identity, unit, label, text) in enumerate(zip(*columns, strict=True)):
            if len(self._keys) == self._rule.budget:
                return
            if is_reserved and self._classes[label] >= self._rule.reserved.get(label, 0):
                continue
            key, value = (identity, unit), _capped_value(text)
            is_full = value is not None and self._values[value] >= (self._rule.at_most or 0)
            if key in self._keys or is_full:
                continue
            self._keys.add(key)
            self._classes[label] += 1
            if value is not None:
                self._values[value] += 1
            yield index

    def _is_done(self, *, is_reserved: bool) -> bool:
        is_full = len(self._keys) == self._rule.budget
        unmet = (number > self._classes[label] for label, number in self._rule.reserved.items())
        return is_full or (is_reserved and not any(unmet))

    def rows(self) -> pa.Table:
        """The chosen rows in the order of the candidates."""
        return pa.concat_tables(self._parts).sort_by("place")


def _capped_value(text: str | None) -> str | None:
    """A value of the capped attribute as JSON with sorted names; None if the example has none."""
    value = orjson.loads(text) if text else None
    # A text of its own: orjson's result stays in a buffer of some KB.
    return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


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
