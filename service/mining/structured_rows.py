"""The rows of a queue of a structured run: units and whole examples, with the reason of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from service.mining.queue_rows import finite, share, typed
from service.mining.queue_table import ROWS_AT_ONCE
from service.mining.unit_reasons import example_reason, unit_reason
from service.queries.unit_names import UNIT_JSON
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.units import WHOLE
from service.schema.structure import Task

_CHOSEN = "chosen_units"
# Columns that only the reasons need.
_OF_EXAMPLE = ("of_example", "num_wrong")


def structured_rows(
    view: View, weighting: Weighting, epoch: int, chosen: pa.Table, total_loss: float, num_runs: int = 1
) -> pa.Table:
    """The rows of the chosen candidates, with a column for each member except `control`.

    The share of a row is that of the losses of its elements in those of all elements of the epoch.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        chosen: Result of `CandidateTable.all_columns`.
        total_loss: Sum of the losses of all elements of the epoch.
        num_runs: Number of runs whose ranks are averaged.
    """
    view.cursor.register(_CHOSEN, chosen)
    task, examples = view.snapshot.description.task, view.scored(weighting, epoch)
    units = (
        f"SELECT {_columns('units', share('units.loss', total_loss))}, {UNIT_JSON[task]} AS unit, units.num_elements, "
        "[units.start, units.stop] AS box, coalesce(units.loss / nullif(examples.loss_sum, 0), 0) AS of_example, "
        f"num_wrong FROM {view.units(weighting, epoch)} units JOIN {_CHOSEN} chosen USING (batch, row, id, unit) "
        f"JOIN {examples} examples USING (batch, row, id)"
    )
    whole = (
        f"SELECT {_columns('examples', share('loss_sum', total_loss))}, '{WHOLE}' AS unit, num_valid AS num_elements, "
        f"NULL::INTEGER[][] AS box, 1.0 AS of_example, num_wrong FROM {examples} examples "
        f"JOIN (FROM {_CHOSEN} WHERE unit IS NULL) chosen USING (batch, row, id)"
    )
    rows = view.table(f"SELECT * FROM ({units} UNION ALL BY NAME {whole}) ORDER BY rank")
    reasons = _reasons(rows, task, view.snapshot.description.class_names, num_runs)
    return typed(rows.drop_columns(list(_OF_EXAMPLE))).append_column("reason", reasons)


def _columns(source: str, part: str) -> str:
    """The columns that units and whole examples have in common; `part` is the expression of their share."""
    scores = (finite(name, source) for name in SCORE_NAMES)
    numbers = (finite(name, "chosen") for name in ("score", "suggested_p"))
    places = ", ".join(f"{source}.{name}" for name in ("batch", "row", "id", "epoch", "target", "prediction"))
    return f"{places}, {', '.join((*scores, *numbers))}, chosen.suggested, strategy, rank, {part} AS share"


def _reasons(rows: pa.Table, task: Task, class_names: Sequence[str] | None, num_runs: int) -> pa.ChunkedArray:
    def sentence(row: Mapping[str, Any]) -> str:
        return example_reason(row, task, num_runs) if row["box"] is None else unit_reason(row, task, class_names)

    parts = (rows.slice(first, ROWS_AT_ONCE).to_pylist() for first in range(0, len(rows), ROWS_AT_ONCE))
    return pa.chunked_array([pa.array(map(sentence, part), pa.string()) for part in parts], pa.string())
