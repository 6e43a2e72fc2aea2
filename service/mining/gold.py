"""Gold rows of a queue: examples with an adjudicated verdict, which are planted again to measure the reviewers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.mining.candidates import candidate_table
from service.mining.queue_rules import only_keys
from service.mining.queue_table import GOLD
from service.mining.requests import QueueRequest
from service.mining.selection import Rule, select
from service.queries.sql import Condition
from service.queries.unit_names import UNIT_JSON
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.runs.units import UnitKey

# Adjudications to these verdicts tell which answer of a reviewer is right.
KNOWN = ("ok", "wrong", "exclude")


def gold_keys(verdicts: Verdicts) -> list[UnitKey]:
    """The examples and units with an adjudicated verdict, sorted."""
    return sorted(
        key
        for key, standing in verdicts.items()
        if standing.adjudicated is not None and standing.adjudicated["verdict"] in KNOWN
    )


@dataclass(frozen=True)
class Gold:
    """The candidates for gold rows of a queue.

    Args:
        wanted: Requested number of gold rows.
        candidates: The candidates, as `CandidateTable.all_columns` returns them; None if there are none.
    """

    wanted: int
    candidates: pa.Table | None

    @classmethod
    def find(
        cls,
        view: View,
        request: QueueRequest,
        weighting: Weighting,
        epoch: int,
        where: Condition,
        keys: Sequence[UnitKey],
        others: Sequence[View],
        people: Verdicts | None,
    ) -> Gold:
        """Find the examples and units of `keys` that meet the conditions of a request and of its strategies.

        So they look like the other rows of the queue.
        """
        wanted = round(request.gold * request.budget)
        if not wanted or not keys:
            return cls(wanted, None)

        def where_gold(of_units: bool) -> Condition:
            return only_keys(where, keys, UNIT_JSON[view.snapshot.description.task] if of_units else None)

        with candidate_table(view, request, weighting, epoch, where_gold, None, others, people) as candidates:
            return cls(wanted, candidates.all_columns(select(Rule(len(keys)), candidates.batches)))

    @property
    def number(self) -> int:
        """Largest number of gold rows."""
        return 0 if self.candidates is None else min(self.wanted, len(self.candidates))

    def plant(self, rows: pa.Table, seed: int) -> pa.Table:
        """Add gold rows at random places, with the column `gold`; candidates that are rows already are left out.

        Args:
            rows: The rows of the queue by rank, as `CandidateTable.all_columns` returns them.
            seed: Seed of the choice and of the places.
        """
        gold = rows.slice(0, 0) if self.candidates is None else self.candidates
        chosen = set(_places(rows))
        others = [index for index, place in enumerate(_places(gold)) if place not in chosen]
        generator = np.random.default_rng(seed)
        drawn = generator.permutation(np.array(others, np.int64))[: self.number]
        total = len(rows) + len(drawn)
        is_gold = np.zeros(total, bool)
        is_gold[generator.choice(total, len(drawn), replace=False)] = True
        ranks = np.concatenate([np.flatnonzero(~is_gold), np.flatnonzero(is_gold)]) + 1
        both = pa.concat_tables([rows, gold.take(pa.array(drawn))])
        planted = both.set_column(both.column_names.index("rank"), "rank", pa.array(ranks))
        return planted.append_column(GOLD, pa.array(is_gold[ranks - 1])).sort_by("rank")

    def warnings(self, planted: pa.Table) -> list[str]:
        """A warning if there are fewer gold rows than requested."""
        number = pc.sum(planted[GOLD]).as_py() or 0
        if number >= min(self.wanted, len(planted)):
            return []
        return [f"{number} of {self.wanted} gold rows: the run has too few adjudicated verdicts on such rows"]


def _places(rows: pa.Table) -> list[tuple[str, int, int | None]]:
    return list(zip(*(rows[name].to_pylist() for name in ("batch", "row", "unit")), strict=True))


def mark_gold(rows: pa.Table, planted: pa.Table) -> pa.Table:
    """The rows of a queue, sorted by rank, with the column `gold` of `planted`; gold rows are no control."""
    is_gold = planted[GOLD]
    control = pc.and_(rows["control"], pc.invert(is_gold))
    return rows.set_column(rows.column_names.index("control"), "control", control).append_column(GOLD, is_gold)
