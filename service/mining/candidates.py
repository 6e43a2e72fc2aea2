"""The candidates of a queue as a temporary table of DuckDB, which goes to disk where it exceeds the memory of queries.

Of a mix, every prefix of the candidates has rows of each ranking by its share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from service.mining.requests import QueueRequest
from service.mining.strategies import ranking
from service.queries.attributes import json_pointer
from service.queries.sql import LATEST, Condition, literal, quoted
from service.queries.view import View
from service.queries.weighting import Weighting

TABLE = "candidates"
ROWS_AT_ONCE = 10_000
# Order of the candidates: the n-th row of a ranking is in the middle of the n-th part of its share.
_ORDER = "position, ranking"


class CandidateTable:
    """The candidates of a request, best first.

    Args:
        view: The run, with the temporary table.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Start a pass over the candidates, with the columns of `Candidates` and those of the order."""
        sql = f"SELECT id, target, capped, {_ORDER} FROM {TABLE} ORDER BY {_ORDER}"
        return self._view.batches(sql, rows=ROWS_AT_ONCE)

    def all_columns(self, chosen: pa.Table) -> pa.Table:
        """The chosen candidates in their order: `rank` from 1, `id`, `batch`, `row`, `strategy`, `score`, `suggested`
        and `suggested_p`.

        Args:
            chosen: Result of `select`.
        """
        self._view.cursor.register("chosen", chosen.select(["place", "position", "ranking"]))
        return self._view.table(
            f"""SELECT row_number() OVER (ORDER BY chosen.place) AS rank, id, batch, row, strategy, score, suggested,
            suggested_p FROM {TABLE} JOIN chosen USING ({_ORDER}) ORDER BY rank"""
        )

    def random_ids(self, chosen: pa.Table) -> pa.Array:
        """Ids of the random candidates up to the last chosen one.

        They include those that another strategy of a mix took first: without them the sample would lack the examples
        that the other strategies prefer.
        """
        self._view.cursor.register("chosen", chosen.select(["place", "position", "ranking"]))
        last = f"SELECT {_ORDER} FROM chosen ORDER BY chosen.place DESC LIMIT 1"
        sql = f"""SELECT id FROM {TABLE} JOIN ({last}) AS last
            ON (candidates.position, candidates.ranking) <= (last.position, last.ranking) WHERE strategy = 'random'"""
        return self._view.table(sql)["id"].combine_chunks()


@contextmanager
def candidate_table(
    view: View, request: QueueRequest, weighting: Weighting, epoch: int, where: Condition, limit: int | None
) -> Iterator[CandidateTable]:
    """Create the candidates of a request, and delete them at the end.

    Args:
        view: The run.
        request: Strategies, with their shares, and the capped attribute.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        where: Condition on the rows.
        limit: Number of first rows of each ranking; None for all.

    Raises:
        InvalidRequestError: The strategy needs logits and the run stores none.
    """
    condition, parameters = where
    total = sum(request.parts.values())
    parts = []
    for number, (strategy, share) in enumerate(request.parts.items()):
        rows = ranking(strategy, view, weighting, epoch, request).sql(condition, limit)
        position = f"(place - 0.5) * {literal(float(total))} / {literal(float(share))}"
        parts.append(f"SELECT *, {position} AS position, {number} AS ranking, '{strategy}' AS strategy FROM ({rows})")
    capped = _capped_values(view, request)
    sql = f"SELECT * FROM ({' UNION ALL '.join(parts)}) LEFT JOIN {capped} USING (id)"
    try:
        view.execute(f"CREATE OR REPLACE TEMP TABLE {TABLE} AS {sql}", parameters * len(parts))
        yield CandidateTable(view)
    finally:
        view.cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")


def _capped_values(view: View, request: QueueRequest) -> str:
    """Subquery with the value of the capped attribute of each example, from the attributes that were sent last."""
    if request.at_most is None:
        return "(SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS capped LIMIT 0)"
    # arg_max ignores nulls, so that an example without the attribute has an empty text.
    value = f"coalesce(json_extract(attributes, {quoted(json_pointer(request.at_most.attribute))})::VARCHAR, '')"
    return (
        f"(SELECT id, arg_max({value}, {LATEST}) AS capped FROM {view.stored(with_attributes=True)} "
        "WHERE attributes IS NOT NULL GROUP BY id)"
    )
