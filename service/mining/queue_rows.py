"""The rows of a queue: the scores, the rank, the share of the loss and the reason of each chosen candidate."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from service.mining.queue_table import ALL_TYPES, ROWS_AT_ONCE, dicts_of
from service.mining.reasons import reason
from service.mining.requests import QueueRequest
from service.mining.strategies import suggestions_over_epochs
from service.queries.sql import literal
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.units import WHOLE

_CHOSEN = "chosen_rows"
# For a row of `area_under_margin` the class that most epochs predicted takes the place of the last epoch's prediction.
_OVER_EPOCHS = """
    CASE WHEN strategy = 'area_under_margin' THEN over.suggested ELSE chosen.suggested END AS suggested,
    CASE WHEN strategy != 'area_under_margin' OR over.suggested IS NOT DISTINCT FROM chosen.suggested
        THEN suggested_p END AS suggested_p,
    CASE WHEN strategy = 'area_under_margin' THEN suggested_epochs END AS suggested_epochs,
    CASE WHEN strategy = 'area_under_margin' THEN num_epochs END AS num_epochs"""


def queue_rows(
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    epoch: int,
    chosen: pa.Table,
    total_loss: float,
    num_runs: int = 1,
) -> pa.Table:
    """The rows of the chosen candidates of a run with one class an example, with a column for each member except
    `control`.

    Args:
        view: The run.
        request: Strategies of the queue.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        chosen: Result of `CandidateTable.all_columns`.
        total_loss: Sum of the losses of the epoch.
        num_runs: Number of runs whose ranks are averaged.
    """
    view.cursor.register(_CHOSEN, chosen)
    over_epochs = "area_under_margin" in request.parts
    source = f"{view.scored(weighting, epoch)} JOIN {_CHOSEN} chosen USING (batch, row, id)"
    if over_epochs:
        ids = f"SELECT id FROM {_CHOSEN} WHERE strategy = 'area_under_margin'"
        source += f" LEFT JOIN {suggestions_over_epochs(view, ids, request.first)} over USING (id)"
    suggested = _OVER_EPOCHS if over_epochs else "chosen.suggested AS suggested, suggested_p"
    scores = ", ".join(finite(name) for name in (*SCORE_NAMES, "score"))
    rows = view.table(
        f"""SELECT id, batch, row, epoch, target, prediction, {scores}, {suggested}, strategy,
            rank, {share("loss", total_loss)} AS share FROM {source} ORDER BY rank"""
    )
    return typed(rows).append_column("reason", _reasons(rows, view.snapshot.description.class_names, num_runs))


def finite(name: str, source: str | None = None) -> str:
    """A column with null for infinity and NaN, which JSON lacks; so a stored queue is the same as a new one."""
    column = name if source is None else f"{source}.{name}"
    return f"CASE WHEN isfinite({column}) THEN {column} END AS {name}"


def share(loss: str, total: float) -> str:
    """Expression of the share of a loss in the loss of the epoch."""
    return f"{loss} / {literal(total)}" if total else "0.0"


def typed(rows: pa.Table) -> pa.Table:
    """The rows with the types of the columns of a queue."""
    return rows.cast(pa.schema([(name, ALL_TYPES[name]) for name in rows.column_names]))


def _reasons(rows: pa.Table, class_names: Sequence[str] | None, num_runs: int) -> pa.ChunkedArray:
    parts = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        sentences = [reason(row, class_names, num_runs) for row in dicts_of(rows.slice(first, ROWS_AT_ONCE))]
        parts.append(pa.array(sentences, pa.string()))
    return pa.chunked_array(parts, pa.string())


def with_control(rows: pa.Table, ids: pa.Array | Sequence[str]) -> pa.Table:
    """The rows with the column `control`, true for whole examples with one of the ids."""
    is_control = pc.is_in(rows["id"], pa.array(ids, pa.string()))
    if "unit" in rows.column_names:
        is_control = pc.and_(is_control, pc.equal(rows["unit"], WHOLE))
    return rows.append_column("control", is_control)
