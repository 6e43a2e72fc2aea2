"""Reads the rows of an export: the rows of a queue, or of a whole epoch by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from service.exports.rows import ExportRow
from service.exports.structured_source import structured_epoch
from service.mining.queue_table import QueueTable
from service.mining.reasons import reason
from service.mining.strategies import SUGGESTED, SUGGESTED_P
from service.queries.attributes import attributes_of, last_attributes
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.review_files import Verdicts
from service.runs.units import UnitKey
from service.schema.structure import review_classes

ROWS_AT_ONCE = 10_000

_COLUMNS = (
    "rank",
    "id",
    "target",
    "prediction",
    "suggested",
    "suggested_p",
    *SCORE_NAMES,
    "share",
    "strategy",
    "score",
    "reason",
    "attributes",
)


def queue_rows(view: View, queue: QueueTable, verdicts: Verdicts) -> Iterator[ExportRow]:
    """Rows of a queue in their order, with the current attributes and verdicts."""
    for first in range(0, len(queue), ROWS_AT_ONCE):
        part = queue.dicts(first, ROWS_AT_ONCE)
        for row, attributes in zip(part, attributes_of(view, part), strict=True):
            yield _export_row(view, {**row, "attributes": attributes}, verdicts)


def epoch_rows(
    view: View,
    weighting: Weighting,
    epoch: int,
    verdicts: Verdicts,
    ids: list[str] | None = None,
    *,
    units: bool = False,
) -> Iterator[ExportRow]:
    """The examples of an epoch, or the units of structured examples, largest loss first.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the scores.
        verdicts: Current verdict of each example.
        ids: Examples to read, None for all.
        units: True for units in place of examples.
    """
    if view.is_structured:
        for row in structured_epoch(view, weighting, epoch, ids, units=units):
            yield _export_row(view, row, verdicts)
        return
    ranked = f"""(SELECT *, loss / nullif(sum(loss) OVER (), 0) AS share,
            row_number() OVER (ORDER BY log_loss DESC, id) AS rank
        FROM {view.scored(weighting, epoch)})"""
    subset = f"SELECT id FROM {view.stored(epoch)}" if ids is None else "SELECT unnest(?::VARCHAR[])"
    condition = "true" if ids is None else f"id IN ({subset})"
    sql = f"""SELECT id, target, prediction, {", ".join(SCORE_NAMES)}, rank, share, last.attributes,
            {SUGGESTED} AS suggested, {SUGGESTED_P} AS suggested_p
        FROM {ranked} LEFT JOIN {last_attributes(view, subset)} last USING (id) WHERE {condition} ORDER BY rank"""
    for part in view.batches(sql, [] if ids is None else [ids, ids], rows=ROWS_AT_ONCE):
        for row in part.to_pylist():
            row |= {"strategy": "top_loss", "score": row["loss"], "share": row["share"] or 0.0}
            row["attributes"] = orjson.loads(row["attributes"]) if row["attributes"] else {}
            row["reason"] = reason(row, view.snapshot.description.class_names)
            yield _export_row(view, row, verdicts)


def _export_row(view: View, row: Mapping[str, Any], verdicts: Verdicts) -> ExportRow:
    description = view.snapshot.description
    names = review_classes(description.task, description.class_names)

    def name_of(label: int | None) -> str | None:
        return None if label is None else str(label) if names is None else names[label]

    review, unit, unit_name = verdicts.get(UnitKey.of(row)), row.get("unit"), None
    if unit is not None and description.task == "multi_label":
        unit_name = str(unit) if description.class_names is None else description.class_names[unit]
    return ExportRow(
        **{name: row[name] for name in _COLUMNS},
        given_label=name_of(row["target"]),
        suggested_label=name_of(row["suggested"]),
        verdict=review and review["verdict"],
        verdict_label=name_of(review and review["label"]),
        unit=unit,
        unit_name=unit_name,
        num_elements=row.get("num_elements"),
        box=row.get("box"),
    )
