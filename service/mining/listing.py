"""Pages of a queue: DuckDB filters and sorts Arrow columns, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa

from service.errors import InvalidRequestError, UnknownQueueError
from service.mining.queues import FOLDER, queue
from service.queries.attributes import attributes_of, json_pointer, last_attributes
from service.queries.order import sort_keys
from service.queries.view import SCORE_NAMES, View
from service.runs.review_files import Verdicts
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.faults import unknown_fault
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueHead, QueueRow, RowsPage, StoredQueue
from service.schema.replies.reviews import Review

VerdictFilter = Literal["open", "reviewed", "ok", "wrong", "unsure"]

SORTABLE = ("rank", "id", "target", "prediction", "suggested", "verdict", "score", "share", *SCORE_NAMES)
CLASSES = ("target", "prediction", "suggested")
# Members of every row, with the types of their columns, also for a queue without rows and for a column of nulls.
_TYPES = {
    **dict.fromkeys(("rank", "target", "prediction", "suggested"), pa.int64()),
    **dict.fromkeys(("score", "share", "suggested_p", *SCORE_NAMES), pa.float64()),
    **dict.fromkeys(("id", "strategy"), pa.string()),
    "control": pa.bool_(),
}
# Members that are not stored in the queue, since they change.
CURRENT = ("attributes", "verdict", "verdict_label")
MAX_FACET_VALUES = 20
_VERDICTS: dict[VerdictFilter, str] = {
    "open": "verdict IS NULL",
    "reviewed": "verdict IS NOT NULL",
    "ok": "verdict = 'ok'",
    "wrong": "verdict = 'wrong'",
    "unsure": "verdict = 'unsure'",
}
# Separates the texts of an example in a search; a control character, which no search contains.
_SEPARATOR = "chr(31)"


class ExpectedErrors(NamedTuple):
    """Number of rows of a strategy, and of wrong labels among them as the model's own probabilities estimate it."""

    num_rows: int
    wrong_labels: float


@dataclass(frozen=True)
class Listing:
    """A queue with its rows as Arrow columns, which take a third of the memory of Python objects.

    Args:
        head: The queue without its rows.
        rows: A column for each member of a row, sorted by rank.
        expected_errors: Result of `expected_errors` for the rows.
    """

    head: QueueHead
    rows: pa.Table
    expected_errors: dict[Strategy, ExpectedErrors]

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return int(self.rows.nbytes)

    @classmethod
    def of(cls, stored: StoredQueue) -> Listing:
        """Convert a queue as `create_queue` and `queue` return it."""
        rows = cast(list[dict[str, Any]], stored["rows"])
        names = dict.fromkeys([*(name for row in rows for name in row), *_TYPES])
        columns = {name: pa.array([row.get(name) for row in rows], _TYPES.get(name)) for name in names}
        head = cast(QueueHead, {name: value for name, value in stored.items() if name != "rows"})
        return cls(head, pa.table(columns), expected_errors(stored["rows"]))

    def rows_at(self, indices: Sequence[int], names: Sequence[str]) -> list[QueueRow]:
        """Selected members of selected rows.

        Args:
            indices: Ranks of the rows minus 1.
            names: Names of the members; a row lacks a member that its strategy does not have.
        """
        columns = [name for name in names if name in self.rows.column_names]
        rows = self.rows.select(columns).take(pa.array(indices, pa.int64())).to_pylist()
        optional = [name for name in columns if name not in _TYPES and self.rows[name].null_count]
        return [
            cast(QueueRow, {name: value for name, value in row.items() if value is not None or name not in optional})
            for row in rows
        ]


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


def listing(store: RunStore, snapshot: Snapshot, name: str) -> Listing:
    """A stored queue.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    return store.documents.derived(snapshot, FOLDER, name, lambda: Listing.of(queue(store, snapshot, name)))


def listings(store: RunStore, snapshot: Snapshot) -> list[Listing]:
    """All queues of a run, by name."""
    found = []
    for name in store.documents.names(snapshot, FOLDER):
        # Another request may delete the queue now.
        with suppress(UnknownQueueError):
            found.append(listing(store, snapshot, name))
    return found


def page(view: View, queue: Listing, verdicts: Verdicts, query: QueueFilter) -> RowsPage:
    """A page of the rows of a queue that match a filter.

    Args:
        view: The run.
        queue: The queue.
        verdicts: Current verdicts of the run.
        query: Filter and order of the rows, and the page.

    Raises:
        InvalidRequestError: `query.fields` has a name that is not a member of a row.
    """
    names = _members(queue, query)
    indices = _matching(view, queue, verdicts, query)
    offset = query.offset
    if query.around is not None:
        position = np.flatnonzero(indices == query.around - 1)
        offset = int(position[0]) // query.limit * query.limit if len(position) else 0
    rows = queue.rows_at(indices[offset : offset + query.limit].tolist(), list(dict.fromkeys([*names, "id"])))
    attributes = attributes_of(view, rows) if "attributes" in names else [{}] * len(rows)
    current = [
        {**row, **_verdict(verdicts.get(row["id"])), "attributes": attributes[number]}
        for number, row in enumerate(rows)
    ]
    shown = [{name: row[name] for name in names if name in row} for row in current]
    result: RowsPage = {"num_matching": len(indices), "offset": offset, "rows": cast(list[QueueRow], shown)}
    if query.facets:
        result["attributes"] = _facets(view, queue)
    return result


def _verdict(review: Review | None) -> dict[str, object]:
    if review is None:
        return {"verdict": None, "verdict_label": None}
    return {"verdict": review["verdict"], "verdict_label": review["label"]}


def _members(queue: Listing, query: QueueFilter) -> list[str]:
    known = [*queue.rows.column_names, *CURRENT]
    for name in query.fields or ():
        if name not in known:
            raise unknown_fault(InvalidRequestError, "field", name, known, "query", "fields")
    return known if query.fields is None else list(query.fields)


def _matching(view: View, queue: Listing, verdicts: Verdicts, query: QueueFilter) -> np.ndarray:
    """Ranks minus 1 of all rows that match the filter, in the order of the query."""
    condition, parameters = query.sql()
    if condition == "true" and not query.order:
        return np.arange(queue.rows.num_rows)
    view.cursor.register("queue_rows", queue.rows)
    source = "queue_rows"
    if query.needs_verdicts:
        columns = {"id": list(verdicts), "verdict": [review["verdict"] for review in verdicts.values()]}
        schema = pa.schema({"id": pa.string(), "verdict": pa.string()})
        view.cursor.register("queue_verdicts", pa.table(columns, schema))
        source += " LEFT JOIN queue_verdicts USING (id)"
    if query.needs_attributes:
        source += f" LEFT JOIN {last_attributes(view, 'SELECT id FROM queue_rows')} USING (id)"
    keys = [f"{name} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in query.order]
    sql = f"SELECT rank - 1 AS index FROM {source} WHERE {condition} ORDER BY {', '.join([*keys, 'rank'])}"
    return np.array([row["index"] for row in view.rows(sql, parameters)], dtype=np.int64)


def _facets(view: View, queue: Listing) -> dict[str, list[str]]:
    """The values of each attribute of the queue's examples that has at most `MAX_FACET_VALUES` distinct values."""
    view.cursor.register("queue_rows", queue.rows)
    pointer = "'/' || replace(replace(name, '~', '~0'), '/', '~1')"
    values = f"""SELECT name, json_extract_string(attributes, {pointer}) AS text
        FROM (SELECT attributes, unnest(json_keys(attributes)) AS name
            FROM {last_attributes(view, "SELECT id FROM queue_rows")})"""
    sql = f"""SELECT name, list_sort(list(DISTINCT text)) AS texts FROM ({values})
        WHERE text IS NOT NULL GROUP BY name HAVING count(DISTINCT text) <= {MAX_FACET_VALUES} ORDER BY name"""
    return {row["name"]: row["texts"] for row in view.rows(sql)}


def expected_errors(rows: Sequence[QueueRow]) -> dict[Strategy, ExpectedErrors]:
    """Estimate the wrong labels among the rows of each strategy by the model's own probabilities.

    The probability that a label is wrong is 1 - p_t; for `area_under_margin` it is the share of epochs that predicted
    the suggested class.
    """
    result: dict[Strategy, ExpectedErrors] = {}
    for row in rows:
        number, total = result.get(row["strategy"], ExpectedErrors(0, 0.0))
        p_wrong = row["suggested_epochs"] / row["num_epochs"] if "suggested_epochs" in row else 1 - row["p_t"]
        result[row["strategy"]] = ExpectedErrors(number + 1, total + p_wrong)
    return result
