"""The rows of an epoch for an export, by loss: examples, or units of structured examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from service.mining.reasons import reason
from service.mining.strategies import SUGGESTED, SUGGESTED_P
from service.mining.unit_reasons import example_reason, unit_reason
from service.queries.attributes import last_attributes
from service.queries.sql import literal
from service.queries.unit_names import UNIT_JSON
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.units import WHOLE

ROWS_AT_ONCE = 10_000


def ranked_rows(
    view: View, weighting: Weighting, epoch: int, ids: list[str] | None, *, units: bool
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an epoch, largest loss first, with the members of a row of a queue.

    The share of a row is that of the losses of its elements in those of all elements of the epoch.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the scores.
        ids: Examples to read, None for all; their ranks are those among all.
        units: True for units, False for whole examples.
    """
    if view.is_structured:
        columns, source = _structured(view, weighting, epoch, units=units)
    else:
        columns, source = _plain(view, weighting, epoch)
    subset = None if ids is None else "SELECT unnest(?::VARCHAR[])"
    condition = "true" if ids is None else f"id IN ({subset})"
    sql = f"""SELECT id, target, prediction, rank, {columns}, last.attributes
        FROM {source} LEFT JOIN {last_attributes(view, subset)} last USING (id) WHERE {condition} ORDER BY rank"""
    for part in view.batches(sql, [] if ids is None else [ids, ids], rows=ROWS_AT_ONCE):
        for row in part.to_pylist():
            row |= {"strategy": "top_loss", "score": row["loss"], "share": row["share"] or 0.0}
            row["attributes"] = orjson.loads(row["attributes"]) if row["attributes"] else {}
            if view.is_structured:
                row["unit"] = orjson.loads(row["unit"])
            row["reason"] = _reason(view, row)
            yield row


def _reason(view: View, row: Any) -> str:
    task, names = view.snapshot.description.task, view.snapshot.description.class_names
    if task == "classification":
        return reason(row, names)
    return example_reason(row, task) if row["unit"] is None else unit_reason(row, task, names)


def _plain(view: View, weighting: Weighting, epoch: int) -> tuple[str, str]:
    """Columns and a subquery: the examples of a run with one class an example."""
    columns = f"{', '.join(SCORE_NAMES)}, share, {SUGGESTED} AS suggested, {SUGGESTED_P} AS suggested_p"
    source = f"""(SELECT *, loss / nullif(sum(loss) OVER (), 0) AS share,
            row_number() OVER (ORDER BY log_loss DESC, id) AS rank
        FROM {view.scored(weighting, epoch)})"""
    return columns, source


def _structured(view: View, weighting: Weighting, epoch: int, *, units: bool) -> tuple[str, str]:
    """Columns and a subquery: the units or the examples of a structured run."""
    total = view.row(f"SELECT coalesce(sum(loss_sum), 0) AS loss FROM {view.scored(weighting, epoch)}")["loss"]
    scores = ", ".join(f"CASE WHEN NOT isnan({name}) THEN {name} END AS {name}" for name in SCORE_NAMES)
    columns = f"""{scores}, loss_sum / {literal(total or 1.0)} AS share, suggested, suggested_p, unit, num_elements,
        box, of_example, num_wrong"""
    return columns, _units(view, weighting, epoch) if units else _examples(view, weighting, epoch)


def num_units(view: View, weighting: Weighting, epoch: int) -> int:
    """Number of units of an epoch."""
    return int(view.row(f"SELECT count(*) AS number FROM {view.units(weighting, epoch)}")["number"])


def _examples(view: View, weighting: Weighting, epoch: int) -> str:
    """A subquery: the examples with their ranks and the columns that units have."""
    return f"""(SELECT * EXCLUDE (attributes), '{WHOLE}' AS unit, num_valid AS num_elements,
            NULL::INTEGER[][] AS box, NULL::INTEGER AS suggested, NULL::FLOAT AS suggested_p, 1.0 AS of_example,
            row_number() OVER (ORDER BY log_loss DESC, id) AS rank
        FROM {view.scored(weighting, epoch)})"""


def _units(view: View, weighting: Weighting, epoch: int) -> str:
    """A subquery: the units with their ranks."""
    return f"""(SELECT units.* EXCLUDE (attributes, unit, suggested_p),
            {UNIT_JSON[view.snapshot.description.task]} AS unit, [units.start, units.stop] AS box,
            units.prediction AS suggested, CASE WHEN NOT isnan(suggested_p) THEN suggested_p END AS suggested_p,
            units.loss AS loss_sum, coalesce(units.loss / nullif(examples.loss_sum, 0), 0) AS of_example, num_wrong,
            row_number() OVER (ORDER BY units.log_loss DESC, id, units.unit) AS rank
        FROM {view.units(weighting, epoch)} units
        JOIN {view.scored(weighting, epoch)} examples USING (batch, row, id))"""
