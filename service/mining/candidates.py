"""The candidates of a queue as a temporary table of DuckDB, which goes to disk where it exceeds the memory of queries.

Of a mix, every prefix of the candidates has rows of each ranking by its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from service.mining.requests import QueueRequest
from service.mining.run_ranks import mean_ranks
from service.mining.strategies import Ranking, ranking
from service.queries.attributes import json_pointer
from service.queries.sql import LATEST, Condition, literal, quoted
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.schema.replies.fields import Strategy

# Tables: the candidates, the values of the capped attribute, and the candidates with them.
RANKED, CAPPED, JOINED = "ranked_candidates", "capped_values", "capped_candidates"
ROWS_AT_ONCE = 10_000
# Order of the candidates: the n-th row of a ranking is in the middle of the n-th part of its share.
_ORDER = "position, ranking"


class CandidateTable:
    """The candidates of a request, best first.

    Args:
        view: The run, with the temporary table.
        name: Name of the table.
    """

    def __init__(self, view: View, name: str) -> None:
        self._view, self._name = view, name

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Start a pass over the candidates, with the columns of `Candidates` and those of the order."""
        sql = f"SELECT id, unit, counted_class, capped, {_ORDER} FROM {self._name} ORDER BY {_ORDER}"
        return self._view.batches(sql, rows=ROWS_AT_ONCE)

    def all_columns(self, chosen: pa.Table) -> pa.Table:
        """The chosen candidates in their order: `rank` from 1, `id`, `batch`, `row`, `unit`, `strategy`, `score`,
        `suggested` and `suggested_p`.

        Args:
            chosen: Result of `select`.
        """
        self._view.cursor.register("chosen", chosen.select(["place", "position", "ranking"]))
        return self._view.table(
            f"""SELECT row_number() OVER (ORDER BY chosen.place) AS rank, id, batch, row, unit, strategy, score,
            suggested, suggested_p FROM {self._name} JOIN chosen USING ({_ORDER}) ORDER BY rank"""
        )

    def random_ids(self, chosen: pa.Table) -> pa.Array:
        """Ids of the random candidates up to the last chosen one.

        They include those that another strategy of a mix took first: without them the sample would lack the examples
        that the other strategies prefer.
        """
        self._view.cursor.register("chosen", chosen.select(["place", "position", "ranking"]))
        last = f"SELECT {_ORDER} FROM chosen ORDER BY chosen.place DESC LIMIT 1"
        sql = f"""SELECT id FROM {self._name} c JOIN ({last}) AS last
            ON (c.position, c.ranking) <= (last.position, last.ranking) WHERE strategy = 'random'"""
        return self._view.table(sql)["id"].combine_chunks()


@contextmanager
def candidate_table(
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    epoch: int,
    where: Callable[[bool], Condition],
    limit: int | None,
    others: Sequence[View] = (),
    verdicts: Verdicts | None = None,
) -> Iterator[CandidateTable]:
    """Create the candidates of a request, and delete them at the end.

    Args:
        view: The run.
        request: Strategies, with their shares, and the capped attribute.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        where: Condition on the rows; its argument is True if they are units.
        limit: Number of first rows of each ranking; None for all.
        others: Further runs, over which the ranks are averaged.
        verdicts: Verdicts on the run whose reviewers count as annotators; None for annotators only.

    Raises:
        InvalidRequestError: The strategy needs logits and the run stores none.
    """
    attribute = None if request.at_most is None else request.at_most.attribute
    try:
        with ExitStack() as stack:
            parts, parameters = list[str](), list[object]()
            for number, strategy in enumerate(request.parts):
                ranked = ranking(strategy, view, weighting, epoch, request, verdicts)
                if others:
                    views = [view, *others]
                    means = mean_ranks(strategy, ranked, views, weighting, epoch, request)
                    ranked = stack.enter_context(means)
                condition, values = where(ranked.of_units)
                parameters += values
                parts.append(_part(request, number, strategy, ranked, condition, limit))
            _create(view, RANKED, " UNION ALL ".join(parts), parameters)
        if attribute is None:
            yield CandidateTable(view, RANKED)
        else:
            # A statement each, since the operators of one share the memory of queries.
            _create(view, CAPPED, _capped_values(view, attribute))
            _create(
                view, JOINED, f"SELECT c.* REPLACE (v.capped AS capped) FROM {RANKED} c LEFT JOIN {CAPPED} v USING (id)"
            )
            yield CandidateTable(view, JOINED)
    finally:
        for name in (RANKED, CAPPED, JOINED):
            view.cursor.execute(f"DROP TABLE IF EXISTS {name}")


def _part(
    request: QueueRequest, number: int, strategy: Strategy, ranked: Ranking, condition: str, limit: int | None
) -> str:
    """Query of the candidates of a ranking, with their position among those of all rankings."""
    total, share = sum(request.parts.values()), request.parts[strategy]
    position = f"(place - 0.5) * {literal(float(total))} / {literal(float(share))}"
    has_unit_cap = request.at_most is not None and request.at_most.attribute is None
    # Without an attribute the cap is on the units of an example.
    capped = "to_json(id)::VARCHAR" if ranked.of_units and has_unit_cap else "NULL::VARCHAR"
    constants = f"{number} AS ranking, '{strategy}' AS strategy, {capped} AS capped"
    return f"SELECT *, {position} AS position, {constants} FROM ({ranked.sql(condition, limit)})"


def _create(view: View, name: str, sql: str, parameters: Sequence[object] = ()) -> None:
    view.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}", parameters)


def _capped_values(view: View, attribute: str) -> str:
    """Query of the value of an attribute of each example, from the attributes that were sent last."""
    # arg_max ignores nulls, so that an example without the attribute has an empty text.
    value = f"coalesce(json_extract(attributes, {quoted(json_pointer(attribute))})::VARCHAR, '')"
    return (
        f"SELECT id, arg_max({value}, {LATEST}) AS capped FROM {view.stored(with_attributes=True)} "
        "WHERE attributes IS NOT NULL GROUP BY id"
    )
