"""Pages of a queue: DuckDB filters and sorts Arrow columns, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from service.errors import InvalidRequestError
from service.mining.queue_table import QueueTable
from service.queries.attributes import attributes_of, json_pointer, last_attributes
from service.queries.order import sort_keys
from service.queries.view import SCORE_NAMES, View
from service.runs.review_history import ReviewHistory, Standing, Verdicts
from service.runs.units import UnitKey
from service.schema.faults import unknown_fault
from service.schema.replies.queues import QueueRow, RowReview, RowsPage
from service.schema.row_parts import RowParts

VerdictFilter = Literal["open", "reviewed", "ok", "wrong", "unsure", "exclude", "conflict"]

SORTABLE = ("rank", "id", "target", "prediction", "suggested", "verdict", "score", "share", *SCORE_NAMES)
CLASSES = ("target", "prediction", "suggested")
# Members that are not stored in the queue, since they change.
CURRENT = ("attributes", "verdict", "verdict_label", "review", "reviews")
REVIEW_MEMBERS = tuple(RowReview.__annotations__)
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

    @property
    def needs_verdicts(self) -> bool:
        """True if the filter or the order reads the verdicts."""
        return self.verdict is not None or any(name == "verdict" for name, _ in self.order)

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


def page(view: View, queue: QueueTable, history: ReviewHistory, query: QueueFilter) -> RowsPage:
    """A page of the rows of a queue that match a filter.

    Args:
        view: The run.
        queue: The queue.
        history: Reviews of the run.
        query: Filter and order of the rows, and the page.

    Raises:
        InvalidRequestError: `query.fields` has a name that is not a member of a row.
    """
    names = _members(queue, query)
    indices = _matching(view, queue, history.verdicts_of(queue.head["epoch"]), query)
    offset = query.offset
    if query.around is not None:
        position = np.flatnonzero(indices == query.around - 1)
        offset = int(position[0]) // query.limit * query.limit if len(position) else 0
    on_page = indices[offset : offset + query.limit]

    def rows(first: int, end: int) -> list[QueueRow]:
        return _current_rows(view, queue, history, on_page[first:end].tolist(), names)

    result: RowsPage = {
        "num_matching": len(indices),
        "offset": offset,
        # In the reply it is a list; here the rows do not exist yet.
        "rows": cast("list[QueueRow]", RowParts(len(on_page), rows)),
    }
    if query.facets:
        result["attributes"] = _facets(view, queue)
    return result


def _current_rows(
    view: View, queue: QueueTable, history: ReviewHistory, indices: Sequence[int], names: Sequence[str]
) -> list[QueueRow]:
    """Members of some rows, with the current attributes and reviews."""
    rows = queue.dicts_at(indices, list(dict.fromkeys([*names, *queue.key_names])))
    attributes = attributes_of(view, rows) if "attributes" in names else [{}] * len(rows)
    epoch = queue.head["epoch"]
    verdicts = history.verdicts_of(epoch)

    def reviews(key: UnitKey) -> dict[str, object]:
        last = history.last_review(key, epoch) or history.last_review(key)
        return {**_verdict(verdicts.get(key)), "review": None if last is None else last["review"]}

    current = (
        {**row, **reviews(UnitKey.of(row)), "attributes": own} for row, own in zip(rows, attributes, strict=True)
    )
    return [cast(QueueRow, {name: row[name] for name in names if name in row}) for row in current]


def _verdict(standing: Standing | None) -> dict[str, object]:
    if standing is None:
        return {"verdict": None, "verdict_label": None, "reviews": []}
    reviews = standing.reviews if standing.adjudicated is None else (*standing.reviews, standing.adjudicated)
    return {
        "verdict": standing.verdict,
        "verdict_label": standing.label,
        "reviews": [{name: review.get(name, False) for name in REVIEW_MEMBERS} for review in reviews],
    }


def _members(queue: QueueTable, query: QueueFilter) -> list[str]:
    known = [*queue.rows.column_names, *CURRENT]
    for name in query.fields or ():
        if name not in known:
            raise unknown_fault(InvalidRequestError, "field", name, known, "query", "fields")
    return known if query.fields is None else list(query.fields)


def _matching(view: View, queue: QueueTable, verdicts: Verdicts, query: QueueFilter) -> np.ndarray:
    """Ranks minus 1 of all rows that match the filter, in the order of the query."""
    condition, parameters = query.sql()
    if condition == "true" and not query.order:
        return np.arange(queue.rows.num_rows)
    view.cursor.register("queue_rows", queue.rows)
    source = "queue_rows"
    if query.needs_verdicts:
        columns: dict[str, list[str | None]] = {
            name: [getattr(key, name) for key in verdicts] for name in queue.key_names
        }
        columns["verdict"] = [standing.verdict for standing in verdicts.values()]
        view.cursor.register("queue_verdicts", pa.table(columns, pa.schema(dict.fromkeys(columns, pa.string()))))
        source += f" LEFT JOIN queue_verdicts USING ({', '.join(queue.key_names)})"
    if query.needs_attributes:
        source += f" LEFT JOIN {last_attributes(view, 'SELECT id FROM queue_rows')} USING (id)"
    keys = [f"{name} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in query.order]
    sql = f"SELECT rank - 1 AS index FROM {source} WHERE {condition} ORDER BY {', '.join([*keys, 'rank'])}"
    return np.array([row["index"] for row in view.rows(sql, parameters)], dtype=np.int64)


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
