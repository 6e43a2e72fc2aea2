"""A queue as it is read: filtered, sorted and a page at a time, without its rows as Python objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from service.errors import InvalidRequestError
from service.mining.queues import FOLDER, queue
from service.runs.examples import add_attributes, json_pointer, last_attributes, sort_keys
from service.runs.queries import SCORE_NAMES, View
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore

Verdicts = Mapping[str, Mapping[str, Any]]
VerdictFilter = Literal["open", "reviewed", "ok", "wrong", "unsure"]

SORTABLE = ("rank", "id", "target", "prediction", "suggested", "verdict", "score", "share", *SCORE_NAMES)
EQUAL = ("target", "prediction", "suggested")
# What every row has, of these types also where a queue has no rows or only nulls.
_TYPES = {
    **dict.fromkeys(("rank", "target", "prediction", "suggested"), pa.int64()),
    **dict.fromkeys(("score", "share", "suggested_p", *SCORE_NAMES), pa.float64()),
    **dict.fromkeys(("id", "strategy"), pa.string()),
    "control": pa.bool_(),
}
# What is known of a row now and was not when the queue was made.
NOW = ("attributes", "verdict", "verdict_label")
MOST_TEXTS = 20
_VERDICTS: dict[VerdictFilter, str] = {
    "open": "verdict IS NULL",
    "reviewed": "verdict IS NOT NULL",
    "ok": "verdict = 'ok'",
    "wrong": "verdict = 'wrong'",
    "unsure": "verdict = 'unsure'",
}
# Between the texts of an example; nobody searches for it.
_BETWEEN = "chr(31)"


@dataclass(frozen=True)
class Listing:
    """A queue with its rows in columns: a third of the memory, and nothing to parse for the next page.

    Args:
        head: The queue without its rows.
        rows: A column for each member of a row, by rank from 1 on.
        doubts: See `doubts`.
    """

    head: dict[str, Any]
    rows: pa.Table
    doubts: dict[str, tuple[int, float]]

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return int(self.rows.nbytes)

    @classmethod
    def of(cls, made: Mapping[str, Any]) -> Listing:
        """That of a queue as `create_queue` and `queue` give it."""
        rows: list[dict[str, Any]] = made["rows"]
        names = dict.fromkeys([*(name for row in rows for name in row), *_TYPES])
        columns = {name: pa.array([row.get(name) for row in rows], _TYPES.get(name)) for name in names}
        head = {name: value for name, value in made.items() if name != "rows"}
        return cls(head, pa.table(columns), doubts(rows))

    def taken(self, places: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """The rows at these places, from 0, with these members; those that only some strategies have where they do."""
        columns = [name for name in names if name in self.rows.column_names]
        rows = self.rows.select(columns).take(pa.array(places, pa.int64())).to_pylist()
        some = [name for name in columns if name not in _TYPES and self.rows[name].null_count]
        return [{name: one for name, one in row.items() if one is not None or name not in some} for row in rows]


@dataclass(frozen=True)
class Wanted:
    """Which rows of a queue, and in which order.

    Args:
        equal: target, prediction, suggested: the class each must have.
        verdict: What must have been said of them.
        attributes: The text that an attribute must have, as last sent for the example.
        text: What the id or the text of an attribute must contain, in whatever case.
        ranks: Only these.
        order: (name of `SORTABLE`, descending) each; nulls come last either way, then the rank decides.
        limit: How many at most.
        offset: After how many.
        around: Instead of `offset`: the page with the row of this rank, or the first where it is not among them.
        fields: The members of each row, None for all.
        facets: Whether to tell what the attributes are.
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
    def looks_at_attributes(self) -> bool:
        return bool(self.attributes) or bool(self.text)

    @property
    def looks_at_verdicts(self) -> bool:
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
            texts = f"array_to_string(json_extract_string(attributes, '$.*'), {_BETWEEN})"
            found = f"concat_ws({_BETWEEN}, id, {texts})"
            conditions.append(f"contains(lower({found}), lower(?))")
            parameters.append(self.text)
        if self.ranks is not None:
            conditions.append("rank IN (SELECT unnest(?::BIGINT[]))")
            parameters.append(list(self.ranks))
        return " AND ".join(conditions), parameters


def parse_order(text: str) -> tuple[tuple[str, bool], ...]:
    """`-loss,target`: names of `SORTABLE` with commas, a minus for descending.

    Raises:
        InvalidRequestError: A name that is not known; lists the known.
    """
    return sort_keys(text, SORTABLE)


def parse_verdict(text: str) -> VerdictFilter:
    """A name of a filter by verdict.

    Raises:
        InvalidRequestError: There is none of this name; lists the known.
    """
    for name in _VERDICTS:
        if text == name:
            return name
    msg = f"verdict is one of {', '.join(_VERDICTS)}, got {text[:50]!r}"
    raise InvalidRequestError(msg, errors=[{"loc": ["query", "verdict"], "msg": msg}])


def listing(store: RunStore, snapshot: Snapshot, name: str) -> Listing:
    """That of a queue that is kept.

    Raises:
        UnknownQueueError: The run has none of this name.
    """
    return store.derived(snapshot, FOLDER, name, lambda: Listing.of(queue(store, snapshot, name)))


def listings(store: RunStore, snapshot: Snapshot) -> list[Listing]:
    """Those of all queues of a run, by name."""
    return [listing(store, snapshot, name) for name in store.documents(snapshot, FOLDER)]


def page(view: View, one: Listing, last: Verdicts, wanted: Wanted) -> dict[str, Any]:
    """Some rows of a queue: the members `num_matching`, `offset`, `rows`, and `attributes` where they are wanted.

    Args:
        view: Of the run.
        one: The queue.
        last: The last word on each example.
        wanted: Which rows.

    Raises:
        InvalidRequestError: A member of rows that there is not.
    """
    names = _members(one, wanted)
    places = _places(view, one, last, wanted)
    offset = wanted.offset
    if wanted.around is not None:
        before = np.flatnonzero(places == wanted.around - 1)
        offset = int(before[0]) // wanted.limit * wanted.limit if len(before) else 0
    rows = one.taken(places[offset : offset + wanted.limit].tolist(), list(dict.fromkeys([*names, "id"])))
    if "attributes" in names:
        add_attributes(view, rows)
    for row in rows:
        said = last.get(row["id"], {})
        now = {"verdict": said.get("verdict"), "verdict_label": said.get("label")}
        row |= {name: value for name, value in now.items() if name in names}
        if "id" not in names:
            del row["id"]
    found: dict[str, Any] = {"num_matching": len(places), "offset": offset, "rows": rows}
    if wanted.facets:
        found["attributes"] = _facets(view, one)
    return found


def _members(one: Listing, wanted: Wanted) -> list[str]:
    known = [*one.rows.column_names, *NOW]
    for name in wanted.fields or ():
        if name not in known:
            msg = f"unknown field {name[:100]!r}; known are {', '.join(known)}"
            raise InvalidRequestError(msg, errors=[{"loc": ["query", "fields"], "msg": msg}])
    return known if wanted.fields is None else list(wanted.fields)


def _places(view: View, one: Listing, last: Verdicts, wanted: Wanted) -> np.ndarray:
    """The places from 0 of all rows that are wanted, in their order."""
    condition, parameters = wanted.sql()
    if condition == "true" and not wanted.order:
        return np.arange(one.rows.num_rows)
    view.cursor.register("queue_rows", one.rows)
    source = "queue_rows"
    if wanted.looks_at_verdicts:
        said = {"id": list(last), "verdict": [review["verdict"] for review in last.values()]}
        schema = pa.schema({"id": pa.string(), "verdict": pa.string()})
        view.cursor.register("queue_verdicts", pa.table(said, schema))
        source += " LEFT JOIN queue_verdicts USING (id)"
    if wanted.looks_at_attributes:
        source += f" LEFT JOIN {last_attributes(view, 'SELECT id FROM queue_rows')} USING (id)"
    keys = [f"{name} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in wanted.order]
    sql = f"SELECT rank - 1 AS place FROM {source} WHERE {condition} ORDER BY {', '.join([*keys, 'rank'])}"
    return np.array([row["place"] for row in view.rows(sql, parameters)], dtype=np.int64)


def _facets(view: View, one: Listing) -> dict[str, list[str]]:
    """The attributes of the queue's examples that have up to `MOST_TEXTS` texts, with these."""
    view.cursor.register("queue_rows", one.rows)
    pointer = "'/' || replace(replace(name, '~', '~0'), '/', '~1')"
    named = f"""SELECT name, json_extract_string(attributes, {pointer}) AS text
        FROM (SELECT attributes, unnest(json_keys(attributes)) AS name
            FROM {last_attributes(view, "SELECT id FROM queue_rows")})"""
    sql = f"""SELECT name, list_sort(list(DISTINCT text)) AS texts FROM ({named})
        WHERE text IS NOT NULL GROUP BY name HAVING count(DISTINCT text) <= {MOST_TEXTS} ORDER BY name"""
    return {row["name"]: row["texts"] for row in view.rows(sql)}


def doubts(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, float]]:
    """Of each strategy, how many rows it has and how many of them are wrong if the model's own doubt is right.

    The doubt is 1 - p_t, of `area_under_margin` the share of epochs that called the row another class.
    """
    found: dict[str, tuple[int, float]] = {}
    for row in rows:
        number, total = found.get(row["strategy"], (0, 0.0))
        doubt = row["suggested_epochs"] / row["num_epochs"] if "suggested_epochs" in row else 1 - row["p_t"]
        found[row["strategy"]] = number + 1, total + doubt
    return found
