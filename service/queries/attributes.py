"""Attributes of examples: of an example that was sent several times, those that were sent last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.queries.last_rows import last_values
from service.queries.sql import LATEST
from service.queries.view import View
from service.schema.json_values import JsonObject


def attributes_of(view: View, rows: Sequence[Mapping[str, Any]]) -> list[JsonObject]:
    """The attributes of the example of each row, as sent last in any epoch; `{}` if it has none.

    Args:
        view: The run.
        rows: Rows with `id` and `epoch`; rows that also have their own `attributes` may save a query.
    """
    last_epoch = max((file.epoch for file in view.snapshot.with_rows(with_attributes=True)), default=None)
    # A row of the last epoch with attributes has the current ones.
    own = [row["attributes"] if row.get("attributes") and row["epoch"] == last_epoch else None for row in rows]
    missing = list({row["id"] for row, text in zip(rows, own, strict=True) if text is None})
    texts: dict[str, str] = {}
    if missing and last_epoch is not None:
        sql = f"SELECT id, attributes FROM {last_attributes(view, 'SELECT unnest(?::VARCHAR[])')}"
        texts = {row["id"]: row["attributes"] for row in view.rows(sql, [missing])}
    return [orjson.loads(text or texts.get(row["id"], "{}")) for row, text in zip(rows, own, strict=True)]


def last_attributes(view: View, ids: str | None = None) -> str:
    """A subquery: the attributes that were sent last for each example, as JSON texts.

    Args:
        view: The run.
        ids: Query of the ids of a few examples; None for all.
    """
    rows = f"(FROM {view.stored(with_attributes=True)} WHERE attributes IS NOT NULL)"
    if ids is not None:
        last = f"arg_max(attributes, {LATEST}) AS attributes"
        return f"(SELECT id, {last} FROM {rows} WHERE id IN ({ids}) GROUP BY id)"
    newest = max((file.epoch for file in view.snapshot.with_rows(with_attributes=True)), default=0)
    of_newest = f"{view.stored(newest, with_attributes=True)} WHERE attributes IS NOT NULL"
    earlier = f"(FROM {rows} WHERE epoch < {newest})"
    return f"({last_values(f'(SELECT id, attributes FROM {of_newest})', earlier, 'attributes')})"


def json_pointer(name: str) -> str:
    """The JSON pointer (RFC 6901) of an attribute; DuckDB's own path syntax cannot express an empty name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
