"""Pages of the examples of an epoch, filtered and in a total order, and single examples."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pyarrow.compute as pc

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.sql import literal
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.parquet import read_rows
from service.runs.review_files import ReviewHistory, Verdicts
from service.schema.faults import fault, unknown_fault
from service.schema.json_values import JsonObject
from service.schema.replies.examples import ExampleDetail, ExampleRow, ExamplesPage, Percentiles, ScoredExample

# Sort keys after those of the request; they make every order total.
TIES = ("id", "batch", "row")
# Sort key of the rows of an example in SQL: the row with the largest value was sent last.
LATEST = "(epoch, batch, row)"
# Name of each sort key and the column to sort by; log_loss also orders losses that underflow.
SORTABLE = {
    **{name: name for name in SCORE_NAMES},
    "loss": "log_loss",
    **{name: name for name in ("target", "prediction", *TIES)},
}
RANGES = SCORE_NAMES
TEXTS = ("id", "batch")
INTEGERS = ("target", "prediction", "row")
SHOWN = ("id", "target", "prediction", *SCORE_NAMES, "epoch", "batch", "row")
# The time of a query grows with the square of its sort keys, and with its filters by attribute.
MAX_SORT_KEYS = 8
MAX_ATTRIBUTES = 8
# Logits that are searched for the row of an example.
LOGITS_AT_ONCE = 2**20
# A condition in SQL and its parameters.
Condition = tuple[str, list[object]]


@dataclass(frozen=True)
class Filter:
    """Conditions on the examples to show; all of them must hold.

    Args:
        classes: Allowed classes by column: `target` or `prediction`.
        at_least: Smallest value by score of `RANGES`.
        at_most: Largest value by score of `RANGES`.
        correct: True for rows whose prediction is the target, False for the others.
        attributes: Required text by attribute, compared with the attributes that were sent last for the example.
        ids: Ids of the examples; None for all.
    """

    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    ids: Sequence[str] | None = None

    def sql(self, view: View) -> Condition:
        """The condition in SQL."""
        conditions = ["true"]
        parameters: list[object] = []
        for name, labels in self.classes.items():
            conditions.append(f"{name} IN (SELECT unnest(?::INTEGER[]))")
            parameters.append(list(labels))
        for sign, bounds in ((">=", self.at_least), ("<=", self.at_most)):
            for name, bound in bounds.items():
                conditions.append(f"{name} {sign} ?::DOUBLE")
                parameters.append(bound)
        if self.correct is not None:
            conditions.append(f"(prediction = target) = {str(self.correct).lower()}")
        if self.attributes:
            equal = " AND ".join(["json_extract_string(attributes, ?) = ?"] * len(self.attributes))
            conditions.append(f"id IN (SELECT id FROM {last_attributes(view)} WHERE {equal})")
            parameters += [value for name, text in self.attributes.items() for value in (json_pointer(name), text)]
        if self.ids is not None:
            conditions.append("list_contains(?::VARCHAR[], id)")
            parameters.append(list(self.ids))
        return " AND ".join(conditions), parameters


@dataclass(frozen=True)
class Order:
    """Sort keys, each ascending or descending, then `TIES`.

    Args:
        keys: Pairs of a name of `SORTABLE` and True for descending.
    """

    keys: tuple[tuple[str, bool], ...]

    @classmethod
    def parse(cls, text: str) -> Order:
        """Parse a text such as `-loss,target`: names between commas, a minus for descending.

        Raises:
            InvalidRequestError: A name is unknown; the error lists the known names.
        """
        return cls(sort_keys(text, SORTABLE))

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Column and direction of each sort key, those of `TIES` included."""
        return [(SORTABLE[name], descending) for name, descending in self.keys] + [(name, False) for name in TIES]

    @property
    def sql(self) -> str:
        """The text after ORDER BY."""
        return ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column, descending in self.columns)

    def after(self, last: Sequence[object]) -> Condition:
        """The condition that a row comes after the row with these values in `columns`."""
        alternatives = []
        parameters: list[object] = []
        for index, (column, descending) in enumerate(self.columns):
            equal = "".join(f"{earlier} = ? AND " for earlier, _ in self.columns[:index])
            alternatives.append(f"({equal}{column} {'<' if descending else '>'} ?)")
            parameters += last[: index + 1]
        return f"({' OR '.join(alternatives)})", parameters


def sort_keys(text: str, known: Collection[str]) -> tuple[tuple[str, bool], ...]:
    """Parse a text such as `-loss,target` to pairs of a name and True for descending.

    Raises:
        InvalidRequestError: A name is unknown, which lists the known ones, or repeated, or there are too many.
    """
    keys: dict[str, bool] = {}
    parts = text.split(",")
    if len(parts) > MAX_SORT_KEYS:
        msg = f"sort has {len(parts)} keys, at most {MAX_SORT_KEYS} are possible"
        raise fault(InvalidRequestError, msg, "query", "sort")
    for part in parts:
        name = part.strip().removeprefix("-")
        if name not in known:
            raise unknown_fault(InvalidRequestError, "sort key", name, known, "query", "sort")
        if name in keys:
            raise fault(InvalidRequestError, f"sort key {name} is repeated", "query", "sort")
        keys[name] = part.strip().startswith("-")
    return tuple(keys.items())


def examples_page(
    view: View,
    weighting: Weighting,
    epoch: int,
    *,
    where: Filter,
    order: Order,
    limit: int,
    cursor: str | None = None,
    verdicts: Verdicts | None = None,
) -> ExamplesPage:
    """A page of the examples of an epoch.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        where: Conditions on the rows.
        order: Order of the rows.
        limit: Maximum number of rows of the page.
        cursor: `next_cursor` of the previous page; None for the first page.
        verdicts: Current verdicts of the run; None for none.

    Raises:
        InvalidRequestError: The cursor is not from a page of this order, epoch and loss.
    """
    condition, parameters = where.sql(view)
    matching = view.row(f"SELECT count(*) AS n FROM {view.scored(weighting, epoch)} WHERE {condition}", parameters)
    # A cursor belongs to one list: with another epoch, loss or order it is an error.
    listing = hashlib.sha256(f"{epoch} {weighting} {order.sql}".encode()).hexdigest()
    if cursor is not None:
        after, values = order.after(_last_values(cursor, order, listing))
        condition, parameters = f"{condition} AND {after}", parameters + values
    rows = view.rows(
        f"SELECT {', '.join(SHOWN)}, attributes, log_loss FROM {view.scored(weighting, epoch)} "
        f"WHERE {condition} ORDER BY {order.sql} LIMIT {literal(limit + 1)}",
        parameters,
    )
    next_cursor = _cursor(rows[limit - 1], order, listing) if len(rows) > limit else None
    return {
        "run": view.snapshot.name,
        "epoch": epoch,
        "num_matching": int(matching["n"]),
        "rows": _example_rows(view, rows[:limit], verdicts or {}),
        "next_cursor": next_cursor,
    }


def _example_rows(view: View, rows: Sequence[Mapping[str, Any]], verdicts: Verdicts) -> list[ExampleRow]:
    result: list[ExampleRow] = []
    for row, attributes in zip(rows, attributes_of(view, rows), strict=True):
        review = verdicts.get(row["id"])
        verdict = None if review is None else review["verdict"]
        result.append({**_scored_example(row), "attributes": attributes, "verdict": verdict})
    return result


def _scored_example(row: Mapping[str, Any]) -> ScoredExample:
    return cast(ScoredExample, {name: row[name] for name in SHOWN})


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
        ids: Query of the ids of the examples; None for all.
    """
    selected = "true" if ids is None else f"id IN ({ids})"
    return (
        f"(SELECT id, arg_max(attributes, {LATEST}) AS attributes FROM {view.stored(with_attributes=True)} "
        f"WHERE attributes IS NOT NULL AND {selected} GROUP BY id)"
    )


def json_pointer(name: str) -> str:
    """The JSON pointer (RFC 6901) of an attribute; DuckDB's own path syntax cannot express an empty name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def example(view: View, weighting: Weighting, epoch: int, identity: str, history: ReviewHistory) -> ExampleDetail:
    """An example: its scores in an epoch with their percentiles, its course over the epochs, and its reviews.

    A percentile is the percentage of the epoch's rows with a smaller value, plus half the percentage of those with an
    equal value. If the example has no row in the epoch, the scores are those of its last row.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the scores and percentiles.
        identity: Id of the example.
        history: Reviews of the run.

    Raises:
        UnknownExampleError: The run has no row of this id in any epoch.
    """
    columns = ", ".join(SHOWN)
    course = view.rows(
        f"SELECT {columns}, attributes, log_loss FROM {view.scored(weighting)} WHERE id = ? ORDER BY epoch, batch, row",
        [identity],
    )
    if not course:
        raise UnknownExampleError(f"run {view.snapshot.name} has no example {identity[:100]!r}")
    epoch_rows = [row for row in course if row["epoch"] == epoch]
    row = (epoch_rows or course)[-1]
    logits, probabilities = _probabilities(view, row)
    return {
        **_scored_example(row),
        "attributes": attributes_of(view, [row])[0],
        "logits": logits,
        "probabilities": probabilities,
        "percentiles": _percentiles(view, weighting, epoch, row),
        "course": [_scored_example(row) for row in course],
        "reviews": [review for review in history.reviews if review["id"] == identity],
    }


def _percentiles(view: View, weighting: Weighting, epoch: int, row: Mapping[str, Any]) -> Percentiles:
    columns = {name: SORTABLE[name] for name in SCORE_NAMES}
    parts = [
        f"(count(*) FILTER ({column} < ?) + 0.5 * count(*) FILTER ({column} = ?)) / nullif(count(*), 0) * 100 AS {name}"
        for name, column in columns.items()
    ]
    values = [row[column] for column in columns.values() for _ in range(2)]
    percentiles = view.row(f"SELECT {', '.join(parts)} FROM {view.scored(weighting, epoch)}", values)
    return cast(Percentiles, {name: None if value is None else float(value) for name, value in percentiles.items()})


def _probabilities(view: View, row: Mapping[str, Any]) -> tuple[list[float | None] | None, list[float] | None]:
    """Logits and probabilities of a row; (None, None) if the run stores no logits."""
    logits = _stored_logits(view, row)
    if logits is None:
        return None, None
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    total = sum(weights)
    return [*logits], [weight / total for weight in weights]


def _stored_logits(view: View, row: Mapping[str, Any]) -> list[float] | None:
    size = max(1, LOGITS_AT_ONCE // (view.snapshot.num_classes or 2))
    for data in view.snapshot.data_of(row["epoch"]):
        if row["batch"] in data.batches:
            for rows in read_rows(view.snapshot.files, data, ["batch", "row", "logits"], size):
                view.check()
                is_row = pc.and_(pc.equal(rows["batch"], row["batch"]), pc.equal(rows["row"], row["row"]))
                if (index := pc.index(is_row, True).as_py()) >= 0:
                    logits: list[float] | None = rows["logits"][index].as_py()
                    return logits
    raise AssertionError("a query found the row")


def _cursor(row: Mapping[str, Any], order: Order, listing: str) -> str:
    # Hexadecimal floats are exact: the next page begins right after this row.
    values = [value.hex() if isinstance(value, float) else value for value in (row[name] for name, _ in order.columns)]
    text = orjson.dumps({"of": listing, "last": values})
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _last_values(cursor: str, order: Order, listing: str) -> list[object]:
    try:
        fields = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # The cursor of another list is handled as an invalid one.
        last = fields["last"] if fields["of"] == listing else ()
        return [_cursor_value(column, value) for value, (column, _) in zip(last, order.columns, strict=True)]
    except (ValueError, KeyError, TypeError, binascii.Error) as err:
        msg = "the cursor is not from a page with this order, epoch and loss; set epoch to stay in one epoch"
        raise fault(InvalidRequestError, msg, "query", "cursor") from err


def _cursor_value(column: str, value: object) -> object:
    """Check the type of a value of a cursor, since a client may send anything."""
    if column in INTEGERS:
        if not isinstance(value, int) or abs(value) >= 2**31:
            raise TypeError(f"{column} is an integer")
        return value
    if not isinstance(value, str):
        raise TypeError(f"{column} is a text")
    return value if column in TEXTS else float.fromhex(value)
