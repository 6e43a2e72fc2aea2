"""Pages of a queue: filtered and sorted by DuckDB over Arrow columns, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa

from service.errors import InvalidRequestError
from service.mining.queues import FOLDER, queue
from service.runs.examples import attributes_of, json_pointer, last_attributes, sort_keys
from service.runs.queries import SCORE_NAMES, View
from service.runs.review_files import Verdicts
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.faults import fault, unknown_fault
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueHead, QueueRow, RowsPage, StoredQueue
from service.schema.replies.reviews import Review

VerdictFilter = Literal["open", "reviewed", "ok", "wrong", "unsure"]

SORTABLE = ("rank", "id", "target", "prediction", "suggested", "verdict", "score", "share", *SCORE_NAMES)
EQUAL = ("target", "prediction", "suggested")
# Members of every row; the types hold also for a queue without rows, and for a column of nulls.
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


class Doubt(NamedTuple):
    """Number of rows of a strategy, and of wrong labels among them if the model's own doubt is right."""

    num_rows: int
    wrong_labels: float


@dataclass(frozen=True)
class Listing:
    """A queue with its rows as Arrow columns: a third of the memory, and the next page needs no parsing.

    Args:
        head: The queue without its rows.
        rows: A column for each member of a row, sorted by rank.
        doubts: Of each strategy; see `doubts`.
    """

    head: QueueHead
    rows: pa.Table
    doubts: dict[Strategy, Doubt]

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
        return cls(head, pa.table(columns), doubts(stored["rows"]))

    def rows_at(self, places: Sequence[int], names: Sequence[str]) -> list[QueueRow]:
        """Some rows with some members.

        Args:
            places: Ranks of the rows, less 1.
            names: Members; a member that only some strategies have is left out of the rows of the others.
        """
        columns = [name for name in names if name in self.rows.column_names]
        rows = self.rows.select(columns).take(pa.array(places, pa.int64())).to_pylist()
        optional = [name for name in columns if name not in _TYPES and self.rows[name].null_count]
        return [
            cast(QueueRow, {name: value for name, value in row.items() if value is not None or name not in optional})
            for row in rows
        ]


@dataclass(frozen=True)
class QueueFilter:
    """Rows of a queue to show, and their order.

    Args:
        equal: Required class for `target`, `prediction` or `suggested`.
        verdict: Required verdict.
        attributes: Required text of attributes, as last sent for the example.
        text: Text that the id or the text of an attribute contains, in upper or lower case.
        ranks: Only rows of these ranks.
        order: (name of `SORTABLE`, descending) each; nulls come last either way, then the rank decides.
        limit: Number of rows of a page.
        offset: Number of rows before the page.
        around: Rank of a row: show the page that has it, or the first page if no page has; overrides `offset`.
        fields: Members of each row, None for all.
        facets: True to return the values of the attributes.
    """

    equal: Mapping[str, int] = field(default_factory=dict)
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
        return bool(self.attributes) or bool(self.text)

    @property
    def needs_verdicts(self) -> bool:
        return self.verdict is not None or any(name == "verdict" for name, _ in self.order)

    def sql(self) -> tuple[str, list[Any]]:
        """The condition and its parameters, over rows with their verdict and attributes."""
        conditions = ["true"]
        parameters: list[Any] = []
        for name, value in self.equal.items():
            conditions.append(f"{name} = ?")
            parameters.append(value)
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
    """Parse `-loss,target`: names of `SORTABLE` with commas, a minus for descending.

    Raises:
        InvalidRequestError: Unknown name; lists the known ones.
    """
    return sort_keys(text, SORTABLE)


def parse_verdict(text: str) -> VerdictFilter:
    """Parse the name of a verdict filter.

    Raises:
        InvalidRequestError: Unknown name; lists the known ones.
    """
    for name in _VERDICTS:
        if text == name:
            return name
    msg = f"verdict is one of {', '.join(_VERDICTS)}, got {text[:50]!r}"
    raise fault(InvalidRequestError, msg, "query", "verdict")


def listing(store: RunStore, snapshot: Snapshot, name: str) -> Listing:
    """A stored queue.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    return store.derived(snapshot, FOLDER, name, lambda: Listing.of(queue(store, snapshot, name)))


def listings(store: RunStore, snapshot: Snapshot) -> list[Listing]:
    """All queues of a run, by name."""
    return [listing(store, snapshot, name) for name in store.documents(snapshot, FOLDER)]


def page(view: View, queue: Listing, verdicts: Verdicts, wanted: QueueFilter) -> RowsPage:
    """A page of the rows of a queue that match a filter.

    Args:
        view: The run.
        queue: The queue.
        verdicts: Current verdicts of the run.
        wanted: Filter and order of the rows, and the page.

    Raises:
        InvalidRequestError: A row has no such member.
    """
    names = _members(queue, wanted)
    places = _places(view, queue, verdicts, wanted)
    offset = wanted.offset
    if wanted.around is not None:
        before = np.flatnonzero(places == wanted.around - 1)
        offset = int(before[0]) // wanted.limit * wanted.limit if len(before) else 0
    rows = queue.rows_at(places[offset : offset + wanted.limit].tolist(), list(dict.fromkeys([*names, "id"])))
    attributes = attributes_of(view, rows) if "attributes" in names else [{}] * len(rows)
    current = [
        {**row, **_verdict(verdicts.get(row["id"])), "attributes": attributes[number]}
        for number, row in enumerate(rows)
    ]
    shown = [{name: row[name] for name in names if name in row} for row in current]
    result: RowsPage = {"num_matching": len(places), "offset": offset, "rows": cast(list[QueueRow], shown)}
    if wanted.facets:
        result["attributes"] = _facets(view, queue)
    return result


def _verdict(review: Review | None) -> dict[str, object]:
    if review is None:
        return {"verdict": None, "verdict_label": None}
    return {"verdict": review["verdict"], "verdict_label": review["label"]}


def _members(queue: Listing, wanted: QueueFilter) -> list[str]:
    known = [*queue.rows.column_names, *CURRENT]
    for name in wanted.fields or ():
        if name not in known:
            raise unknown_fault(InvalidRequestError, "field", name, known, "query", "fields")
    return known if wanted.fields is None else list(wanted.fields)


def _places(view: View, queue: Listing, verdicts: Verdicts, wanted: QueueFilter) -> np.ndarray:
    """Ranks, less 1, of all rows that match the filter, in its order."""
    condition, parameters = wanted.sql()
    if condition == "true" and not wanted.order:
        return np.arange(queue.rows.num_rows)
    view.cursor.register("queue_rows", queue.rows)
    source = "queue_rows"
    if wanted.needs_verdicts:
        columns = {"id": list(verdicts), "verdict": [review["verdict"] for review in verdicts.values()]}
        schema = pa.schema({"id": pa.string(), "verdict": pa.string()})
        view.cursor.register("queue_verdicts", pa.table(columns, schema))
        source += " LEFT JOIN queue_verdicts USING (id)"
    if wanted.needs_attributes:
        source += f" LEFT JOIN {last_attributes(view, 'SELECT id FROM queue_rows')} USING (id)"
    keys = [f"{name} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in wanted.order]
    sql = f"SELECT rank - 1 AS place FROM {source} WHERE {condition} ORDER BY {', '.join([*keys, 'rank'])}"
    return np.array([row["place"] for row in view.rows(sql, parameters)], dtype=np.int64)


def _facets(view: View, queue: Listing) -> dict[str, list[str]]:
    """Values of each attribute of the queue's examples that has up to `MAX_FACET_VALUES` of them."""
    view.cursor.register("queue_rows", queue.rows)
    pointer = "'/' || replace(replace(name, '~', '~0'), '/', '~1')"
    values = f"""SELECT name, json_extract_string(attributes, {pointer}) AS text
        FROM (SELECT attributes, unnest(json_keys(attributes)) AS name
            FROM {last_attributes(view, "SELECT id FROM queue_rows")})"""
    sql = f"""SELECT name, list_sort(list(DISTINCT text)) AS texts FROM ({values})
        WHERE text IS NOT NULL GROUP BY name HAVING count(DISTINCT text) <= {MAX_FACET_VALUES} ORDER BY name"""
    return {row["name"]: row["texts"] for row in view.rows(sql)}


def doubts(rows: Sequence[QueueRow]) -> dict[Strategy, Doubt]:
    """Sum the model's doubt about the rows of each strategy.

    The doubt about a row is 1 - p_t; for `area_under_margin` it is the share of epochs that predicted the suggested
    class.
    """
    result: dict[Strategy, Doubt] = {}
    for row in rows:
        number, total = result.get(row["strategy"], Doubt(0, 0.0))
        doubt = row["suggested_epochs"] / row["num_epochs"] if "suggested_epochs" in row else 1 - row["p_t"]
        result[row["strategy"]] = Doubt(number + 1, total + doubt)
    return result
