"""The reply of `GET /runs/{run}/consensus`."""

from __future__ import annotations

from typing import cast, get_type_hints

from service.diagnostics.annotators.run_consensus import RunConsensus
from service.queries.order import sort_keys
from service.queries.sql import literal
from service.queries.view import View
from service.schema.replies.consensus import Consensus, ExampleConsensus

COLUMNS = tuple(get_type_hints(ExampleConsensus))
# Examples without annotations come last in any order.
SORT = "quality"
_TOTALS = """SELECT count(*) AS num_examples, count(consensus) AS num_annotated,
    count(*) FILTER (num_annotations > 1) AS num_shared, coalesce(sum(num_annotations), 0)::BIGINT AS num_annotations,
    count(*) FILTER (consensus != target) AS num_differing"""


def consensus_page(
    view: View,
    epoch: int,
    consensus: RunConsensus,
    *,
    sort: str = SORT,
    annotated: bool | None = None,
    differing: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> Consensus:
    """The reply of `GET /runs/{run}/consensus`.

    Args:
        view: The run.
        epoch: The epoch.
        consensus: Result of `run_consensus`.
        sort: Names of `COLUMNS` with commas, a leading minus for descending order; ties by id.
        annotated: True for examples with annotations, False for those without.
        differing: True for examples whose consensus is not their given label, False for those whose consensus it is.
        limit: Maximum number of rows.
        offset: Number of rows to skip.

    Raises:
        InvalidRequestError: Unknown sort key; lists the known names.
    """
    order = "".join(
        f"{column} {'DESC' if descending else 'ASC'} NULLS LAST, " for column, descending in sort_keys(sort, COLUMNS)
    )
    conditions = {"num_annotations > 0": annotated, "consensus != target": differing}
    where = " AND ".join(f"({sql}) = {wanted}" for sql, wanted in conditions.items() if wanted is not None) or "true"
    table = view.register("consensus", consensus.table)
    rows = view.rows(
        f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE {where} "
        f"ORDER BY {order}id LIMIT {literal(limit)} OFFSET {literal(offset)}"
    )
    reply = {
        "run": view.snapshot.name,
        "epoch": epoch,
        **view.row(f"{_TOTALS} FROM {table}"),
        **consensus.summary,
        "num_matching": view.row(f"SELECT count(*) AS n FROM {table} WHERE {where}")["n"],
        "rows": rows,
    }
    return cast("Consensus", reply)
