"""The rows of an export: those of a queue, or of a whole epoch by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from service.exports.rows import ExportRow
from service.mining.reasons import reason
from service.mining.strategies import SUGGESTED, SUGGESTED_P
from service.runs.examples import LAST_SENT, add_attributes
from service.runs.queries import SCORE_NAMES, View, Weighting

ROWS_AT_ONCE = 10_000
Verdicts = Mapping[str, Mapping[str, Any]]


def queue_rows(view: View, queue: Mapping[str, Any], verdicts: Verdicts) -> Iterator[ExportRow]:
    """The rows of a queue in their order, with the attributes and verdicts of now."""
    rows = iter(queue["rows"])
    while part := [dict(row) for row in islice(rows, ROWS_AT_ONCE)]:
        add_attributes(view, part)
        yield from (_export_row(view, row, verdicts) for row in part)


def epoch_rows(
    view: View, weighting: Weighting, epoch: int, verdicts: Verdicts, ids: list[str] | None = None
) -> Iterator[ExportRow]:
    """All examples of an epoch, or those of some ids, each once, the largest loss first.

    Args:
        view: Of the run.
        weighting: For the losses.
        epoch: Of the scores.
        verdicts: The last word on each example.
        ids: None for all.
    """
    ranked = f"""(SELECT *, loss / nullif(sum(loss) OVER (), 0) AS share,
            row_number() OVER (ORDER BY log_loss DESC, id) AS rank
        FROM (SELECT * FROM {view.scored(weighting, epoch)}
              QUALIFY row_number() OVER (PARTITION BY id ORDER BY log_loss DESC, batch, row) = 1))"""
    attributes = f"""(SELECT id AS of, arg_max(attributes, {LAST_SENT}) AS attributes_now
        FROM {view.stored(with_attributes=True)} WHERE attributes IS NOT NULL GROUP BY id)"""
    wanted = "true" if ids is None else "id IN (SELECT unnest(?::VARCHAR[]))"
    sql = f"""SELECT id, target, prediction, {", ".join(SCORE_NAMES)}, rank, share, attributes_now AS attributes,
            {SUGGESTED} AS suggested, {SUGGESTED_P} AS suggested_p
        FROM {ranked} LEFT JOIN {attributes} ON id = of WHERE {wanted} ORDER BY rank"""
    for part in view.reader(sql, [] if ids is None else [ids], rows=ROWS_AT_ONCE):
        for row in part.to_pylist():
            row |= {"strategy": "top_loss", "score": row["loss"], "share": row["share"] or 0.0}
            row["attributes"] = orjson.loads(row["attributes"]) if row["attributes"] else {}
            row["reason"] = reason(row, view.snapshot.description.class_names)
            yield _export_row(view, row, verdicts)


def _export_row(view: View, row: Mapping[str, Any], verdicts: Verdicts) -> ExportRow:
    names = view.snapshot.description.class_names

    def named(label: int | None) -> str | None:
        return None if label is None else str(label) if names is None else names[label]

    said = verdicts.get(row["id"], {})
    fields = {name: row[name] for name in _COPIED}
    return ExportRow(
        **fields,
        given_label=named(row["target"]) or "",
        suggested_label=named(row["suggested"]),
        verdict=said.get("verdict"),
        verdict_label=named(said.get("label")),
    )


_COPIED = (
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
