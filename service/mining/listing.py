"""Pages of a queue: DuckDB filters and sorts Arrow columns, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import InvalidRequestError
from service.mining.key_index import Rows
from service.mining.queue_table import HIDDEN_TYPES, QueueTable
from service.mining.row_states import WORDS
from service.mining.visibility import QueueOf, SeenRow
from service.queries.attributes import attributes_of, json_pointer, last_attributes
from service.queries.order import sort_keys
from service.queries.view import SCORE_NAMES, View
from service.runs.units import UnitKey
from service.schema.faults import unknown_fault
from service.schema.replies.queues import QueueRow, RowsPage
from service.schema.row_parts import RowParts

VerdictFilter = Literal["open", "reviewed", "ok", "wrong", "unsure", "exclude", "conflict"]

SORTABLE = ("rank", "id", "target", "prediction", "suggested", "verdict", "score", "share", *SCORE_NAMES)
CLASSES = ("target", "prediction", "suggested")
# Members that are not stored in the queue, since they change.
CURRENT = ("attributes", "verdict", "verdict_label", "review", "reviews", "done", "suggestion")
# Members that tell the class that the model suggests.
SUGGESTIONS = ("prediction", "suggested", "suggested_p", "suggested_epochs")
SUGGESTION_HIDDEN = "The suggestion of the model is hidden until your verdict."
MAX_FACET_VALUES = 20
_VERDICTS: dict[VerdictFilter, str] = {
    "open": "verdict IS NULL",
    "reviewed": "verdict IS NOT NULL",
    "ok": "verdict = 'ok'",
    "wrong": "verdict = 'wrong'",
    "unsure": "verdict = 'unsure'",
    "exclude": "verdict = 'exclude'",
    "conflict": "verdict = 'conflict'",
}
# Separates the texts of an example in a search; a control character, which no search contains.
_SEPARATOR = "chr(31)"


@dataclass(frozen=True)
class QueueFilter:
    """Filter and order of the rows of a queue, and the page of them.

    Args:
        classes: Allowed classes by column: `target`, `prediction` or `suggested`.
        verdict: Required verdict; None for any.
        attributes: Required text by attribute, compared with the attributes that were sent last for the example.
        text: Text that the id or an attribute must contain, ignoring case.
        ranks: Ranks of the rows; None for all.
        order: Pairs of a name of `SORTABLE` and True for descending; nulls come last, ties are sorted by rank.
        limit: Maximum number of rows of the page.
        offset: Number of matching rows before the page.
        around: Rank of a row; selects the page with the row, or the first page if none has it; overrides `offset`.
        fields: Members of each row; None for all.
        facets: True to return the values of the attributes.
    """

    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    verdict: VerdictFilter | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    ranks: Sequence[int] | None = None
    order: Sequence[tuple[str, bool]] = ()
    limit: int = 100
    offset: int = 0
    around: int | None = None
    fields: Sequence[str] | None = None
    facets: bool = False

    @property
    def needs_attributes(self) -> bool:
        """True if the filter reads the attributes of the examples."""
        return bool(self.attributes) or bool(self.text)

    def sql(self) -> tuple[str, list[Any]]:
        """The condition and its parameters, over rows with their verdict and attributes."""
        conditions = ["true"]
        parameters: list[Any] = []
        for name, labels in self.classes.items():
            conditions.append(f"{name} IN (SELECT unnest(?::BIGINT[]))")
            parameters.append(list(labels))
        if self.verdict is not None:
            conditions.append(_VERDICTS[self.verdict])
        for name, text in self.attributes.items():
            conditions.append("json_extract_string(attributes, ?) = ?")
            parameters += [json_pointer(name), text]
        if self.text:
            texts = f"array_to_string(json_extract_string(attributes, '$.*'), {_SEPARATOR})"
            conditions.append(f"contains(lower(concat_ws({_SEPARATOR}, id, {texts})), lower(?))")
            parameters.append(self.text)
        if self.ranks is not None:
            conditions.append("rank IN (SELECT unnest(?::BIGINT[]))")
            parameters.append(list(self.ranks))
        return " AND ".join(conditions), parameters


def parse_order(text: str) -> tuple[tuple[str, bool], ...]:
    """Parse a text such as `-loss,target`: names of `SORTABLE` between commas, a minus for descending.

    Raises:
        InvalidRequestError: A name is unknown; the error lists the known names.
    """
    return sort_keys(text, SORTABLE)


def page(view: View, seen: QueueOf, query: QueueFilter) -> RowsPage:
    """A page of the rows of a queue that match a filter.

    Args:
        view: The run.
        seen: The queue as the caller sees it.
        query: Filter and order of the rows, and the page.

    Raises:
        InvalidRequestError: `query.fields` has a name that is not a member of a row.
    """
    names = _members(seen.queue, query)
    indices = _matching(view, seen, query)
    offset = query.offset
    if query.around is not None:
        position = np.flatnonzero(indices == query.around - 1)
        offset = int(position[0]) // query.limit * query.limit if len(position) else 0
    on_page = indices[offset : offset + query.limit]

    def rows(first: int, end: int) -> list[QueueRow]:
        return current_rows(view, seen, on_page[first:end].tolist(), names)

    result: RowsPage = {
        "num_matching": len(indices),
        "offset": offset,
        # In the reply it is a list; here the rows do not exist yet.
        "rows": cast("list[QueueRow]", RowParts(len(on_page), rows)),
    }
    if query.facets:
        result["attributes"] = _facets(view, seen.queue)
    return result


def members(queue: QueueTable) -> list[str]:
    """Names of all members of the rows in replies."""
    return [*(name for name in queue.rows.column_names if name not in HIDDEN_TYPES), *CURRENT]


def current_rows(view: View, seen: QueueOf, indices: Sequence[int], names: Sequence[str]) -> list[QueueRow]:
    """Members of some rows, with the current attributes and the reviews that the caller may see.

    Args:
        view: The run.
        seen: The queue as the caller sees it.
        indices: Ranks of the rows minus 1.
        names: Names of the members.
    """
    queue = seen.queue
    rows = queue.dicts_at(indices, list(dict.fromkeys([*names, *queue.key_names, "epoch", "strategy"])))
    attributes = attributes_of(view, rows) if "attributes" in names else [{}] * len(rows)
    seen_rows = [seen.row(index, UnitKey.of(row)) for index, row in zip(indices, rows, strict=True)]
    current = (
        {**row, **_shown(seen, index, row, of_row), **_reviewed(of_row), "attributes": own}
        for index, row, of_row, own in zip(indices, rows, seen_rows, attributes, strict=True)
    )
    return [cast(QueueRow, {name: row[name] for name in names if name in row}) for row in current]


def _shown(seen: QueueOf, index: int, row: QueueRow, of_row: SeenRow) -> dict[str, object]:
    """Members that differ from the stored ones: a gold row looks like any other, and a suggestion may be hidden."""
    shown: dict[str, object] = {}
    if seen.queue.tracker.is_gold(index):
        is_whole = row.get("unit") is None
        shown["control"] = seen.queue.head["is_control"] and row["strategy"] == "random" and is_whole
    if of_row.suggestion == "hidden":
        shown |= dict.fromkeys((name for name in SUGGESTIONS if name in row), None)
        shown["reason"] = SUGGESTION_HIDDEN
    return shown


def _reviewed(of_row: SeenRow) -> dict[str, object]:
    standing, last = of_row.standing, of_row.last
    return {
        "verdict": None if standing is None else standing.verdict,
        "verdict_label": None if standing is None else standing.label,
        "review": None if last is None else last["review"],
        "reviews": of_row.reviews,
        "done": of_row.done,
        "suggestion": of_row.suggestion,
    }


def _members(queue: QueueTable, query: QueueFilter) -> list[str]:
    known = members(queue)
    for name in query.fields or ():
        if name not in known:
            raise unknown_fault(InvalidRequestError, "field", name, known, "query", "fields")
    return known if query.fields is None else list(query.fields)


def _matching(view: View, seen: QueueOf, query: QueueFilter) -> Rows:
    """Ranks minus 1 of all rows that match the filter, in the order of the query."""
    condition, parameters = query.sql()
    if condition == "true" and not query.order:
        return np.arange(len(seen.queue))
    view.cursor.register("queue_rows", _as_seen(seen))
    source = "queue_rows"
    if query.needs_attributes:
        source += f" LEFT JOIN {last_attributes(view, 'SELECT id FROM queue_rows')} USING (id)"
    keys = [f"{name} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in query.order]
    sql = f"SELECT rank - 1 AS index FROM {source} WHERE {condition} ORDER BY {', '.join([*keys, 'rank'])}"
    found: Rows = pa.Table.from_batches(view.batches(sql, parameters))["index"].to_numpy()
    return found


def _as_seen(seen: QueueOf) -> pa.Table:
    """The rows with the verdicts that the caller may see, and without hidden suggestions."""
    rows = seen.queue.rows.append_column("verdict", pa.array(WORDS, pa.string()).take(pa.array(seen.codes)))
    hidden = seen.without_suggestion
    for name in SUGGESTIONS if hidden is not None else ():
        if name in rows.column_names:
            shown = pc.if_else(pa.array(hidden), None, rows[name])
            rows = rows.set_column(rows.column_names.index(name), name, shown)
    return rows


def _facets(view: View, queue: QueueTable) -> dict[str, list[str]]:
    """The values of each attribute of the queue's examples that has at most `MAX_FACET_VALUES` distinct values."""
    view.cursor.register("queue_rows", queue.rows)
    pointer = "'/' || replace(replace(name, '~', '~0'), '/', '~1')"
    values = f"""SELECT name, json_extract_string(attributes, {pointer}) AS text
        FROM (SELECT attributes, unnest(json_keys(attributes)) AS name
            FROM {last_attributes(view, "SELECT id FROM queue_rows")})"""
    sql = f"""SELECT name, list_sort(list(DISTINCT text)) AS texts FROM ({values})
        WHERE text IS NOT NULL GROUP BY name HAVING count(DISTINCT text) <= {MAX_FACET_VALUES} ORDER BY name"""
    return {row["name"]: row["texts"] for row in view.rows(sql)}
