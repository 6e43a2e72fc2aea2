"""Rows of the exports for labelling tools, as rows of a table of reviews.

| format | row |
|---|---|
| `label-studio` | a task without annotations: its `data` |
| `argilla` | a record |
| `fiftyone` | a label of an image: its `attributes` |

A tool has each example once; the verdicts on its units are in `units`. Only the names that exports write are read:
attributes may have any other name.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.exports.row_files import Row
from service.exports.row_verdicts import RowVerdict
from service.exports.rows import TOOL_NAMES

# No table that people make has these names.
ID, OWN_NAMES = TOOL_NAMES["id"], {TOOL_NAMES["id"], TOOL_NAMES["loss"], TOOL_NAMES["score"]}


def review_rows_of(row: Row) -> Iterator[Row]:
    """The rows of a table that a row stands for: itself or, of an export for a tool, its example and its units."""
    fields = _tool_fields(row)
    if fields is None:
        yield row
        return
    yield _review_row(fields[ID], fields)
    units = fields.get("units")
    for unit in units if isinstance(units, list) else ():
        if isinstance(unit, dict):
            yield {"unit": unit.get("unit"), **_review_row(fields[ID], unit)}


def _tool_fields(row: Row) -> Row | None:
    """The fields of a row of an export for a tool; None for other rows, and for those that the tool has written."""
    if row.keys() >= OWN_NAMES:
        # Label Studio has ids of its own.
        return row if row.get("id") == row[ID] else None
    part = row.get("data", row.get("attributes"))
    if not isinstance(part, dict) or "annotations" in row:
        return None
    return part if part.keys() >= OWN_NAMES else None


def _review_row(identity: object, fields: Row) -> Row:
    return {"id": identity, **{name: fields.get(TOOL_NAMES[name]) for name in RowVerdict._fields}}
