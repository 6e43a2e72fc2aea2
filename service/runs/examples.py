"""Pages of the examples of one epoch: filtered, in a total order, from where the last page ended."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.errors import InvalidRequestError, UnknownExampleError
from service.runs.queries import SCORE_NAMES, View, Weighting

# What makes the order total, after the keys asked for.
TIES = ("id", "batch", "row")
# By what the last of several rows of an example is the last.
LAST_SENT = "(epoch, batch, row)"
# A loss that underflows still has an order: by its logarithm.
SORTABLE = {
    **{name: name for name in SCORE_NAMES},
    "loss": "log_loss",
    **{name: name for name in ("target", "prediction", *TIES)},
}
RANGES = SCORE_NAMES
TEXTS = ("id", "batch")
INTEGERS = ("target", "prediction", "row")
SHOWN = ("id", "target", "prediction", *SCORE_NAMES, "epoch", "batch", "row")


@dataclass(frozen=True)
class Filter:
    """Which examples to show.

    Args:
        equal: target, prediction: the class each must have.
        at_least: The least value of scores of `RANGES`.
        at_most: The largest.
        correct: Whether the prediction is the target.
        attributes: The text that an attribute must have, as last sent for the example.
        ids: Only these.
    """

    equal: Mapping[str, int] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    ids: Sequence[str] | None = None

    def sql(self, view: View) -> tuple[str, list[Any]]:
        """A condition and its parameters."""
        conditions = ["true"]
        parameters: list[Any] = []
        for name, value in self.equal.items():
            conditions.append(f"{name} = ?")
            parameters.append(value)
        for sign, bounds in ((">=", self.at_least), ("<=", self.at_most)):
            for name, bound in bounds.items():
                conditions.append(f"{name} {sign} ?::DOUBLE")
                parameters.append(bound)
        if self.correct is not None:
            conditions.append(f"(prediction = target) = {str(self.correct).lower()}")
        for name, text in self.attributes.items():
            # What was sent last may lack the attribute; arg_max would pass over a null.
            last = f"arg_max(coalesce('=' || json_extract_string(attributes, ?), '-'), {LAST_SENT})"
            stored = view.stored(with_attributes=True)
            conditions.append(
                f"id IN (SELECT id FROM {stored} WHERE attributes IS NOT NULL GROUP BY id HAVING {last} = ?)"
            )
            parameters += [json_pointer(name), f"={text}"]
        if self.ids is not None:
            conditions.append("list_contains(?::VARCHAR[], id)")
            parameters.append(list(self.ids))
        return " AND ".join(conditions), parameters


@dataclass(frozen=True)
class Order:
    """By which keys, each ascending or descending, then by `TIES`.

    Args:
        keys: (name of `SORTABLE`, descending) each.
    """

    keys: tuple[tuple[str, bool], ...]

    @classmethod
    def parse(cls, text: str) -> Order:
        """`-loss,target`: names with commas, a minus for descending.

        Raises:
            InvalidRequestError: A name that is not known; lists the known.
        """
        return cls(sort_keys(text, SORTABLE))

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """The columns of the order, the ties included."""
        return [(SORTABLE[name], descending) for name, descending in self.keys] + [(name, False) for name in TIES]

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column, descending in self.columns)

    def after(self, last: Sequence[Any]) -> tuple[str, list[Any]]:
        """The condition that a row comes after one with these values in `columns`."""
        alternatives = []
        parameters: list[Any] = []
        for place, (column, descending) in enumerate(self.columns):
            equal = "".join(f"{earlier} = ? AND " for earlier, _ in self.columns[:place])
            alternatives.append(f"({equal}{column} {'<' if descending else '>'} ?)")
            parameters += [*last[: place + 1]]
        return f"({' OR '.join(alternatives)})", parameters


def sort_keys(text: str, known: Collection[str]) -> tuple[tuple[str, bool], ...]:
    """(name, descending) of each part of `-loss,target`.

    Raises:
        InvalidRequestError: A name that is not known; lists the known.
    """
    keys = []
    for part in text.split(","):
        name = part.strip().removeprefix("-")
        if name not in known:
            msg = f"unknown sort key {name[:100]!r}; known are {', '.join(known)}"
            raise InvalidRequestError(msg, errors=[{"loc": ["query", "sort"], "msg": msg}])
        keys.append((name, part.strip().startswith("-")))
    return tuple(keys)


@dataclass(frozen=True)
class Page:
    """Some rows, and where the next begin.

    Args:
        rows: Each with the members of `SHOWN` and `attributes`.
        next_cursor: None on the last page.
    """

    rows: list[dict[str, Any]]
    next_cursor: str | None


def page(
    view: View, weighting: Weighting, epoch: int, *, filtered: Filter, order: Order, limit: int, cursor: str | None
) -> Page:
    """The next rows of an order.

    Args:
        view: Of the run.
        weighting: For the losses.
        epoch: Of the rows.
        filtered: Which rows.
        order: Of the rows.
        limit: How many at most.
        cursor: `next_cursor` of the page before, None for the first.

    Raises:
        InvalidRequestError: The cursor is not one of this order, epoch and loss.
    """
    condition, parameters = filtered.sql(view)
    # What must not change from page to page: an epoch that comes meanwhile would be a list of other rows.
    listing = f"{epoch} {weighting} {order.sql}"
    if cursor is not None:
        after, values = order.after(_last_values(cursor, order, listing))
        condition, parameters = f"{condition} AND {after}", parameters + values
    rows = view.rows(
        f"SELECT {', '.join(SHOWN)}, attributes, log_loss FROM {view.scored(weighting, epoch)} "
        f"WHERE {condition} ORDER BY {order.sql} LIMIT {limit + 1}",
        parameters,
    )
    more, rows = len(rows) > limit, rows[:limit]
    next_cursor = _cursor(rows[-1], order, listing) if more else None
    add_attributes(view, rows)
    for row in rows:
        del row["log_loss"]
    return Page(rows, next_cursor)


def count(view: View, weighting: Weighting, epoch: int, filtered: Filter) -> int:
    """How many rows a filter leaves."""
    condition, parameters = filtered.sql(view)
    sql = f"SELECT count(*) AS n FROM {view.scored(weighting, epoch)} WHERE {condition}"
    return int(view.row(sql, parameters)["n"])


def add_attributes(view: View, rows: Sequence[dict[str, Any]]) -> None:
    """Give each row its example's attributes, as last sent in any epoch, decoded; `{}` where there are none."""
    last = max((one.epoch for one in view.snapshot.data if one.footer.has_attributes), default=None)
    # A row that brings its own out of the last epoch that has any needs no search.
    lacking = [row for row in rows if row.get("attributes") is None or row["epoch"] != last]
    if lacking and last is not None:
        sql = f"SELECT id, attributes FROM {last_attributes(view, 'SELECT unnest(?::VARCHAR[])')}"
        ids = list({row["id"] for row in lacking})
        found = {row["id"]: row["attributes"] for row in view.rows(sql, [ids])}
        for row in lacking:
            row["attributes"] = found.get(row["id"])
    for row in rows:
        text = row.get("attributes")
        row["attributes"] = orjson.loads(text) if text else {}


def last_attributes(view: View, ids: str) -> str:
    """A subquery: the attributes, as JSON texts, that were sent last for each of the examples of a query of ids."""
    return (
        f"(SELECT id, arg_max(attributes, {LAST_SENT}) AS attributes FROM {view.stored(with_attributes=True)} "
        f"WHERE attributes IS NOT NULL AND id IN ({ids}) GROUP BY id)"
    )


def json_pointer(name: str) -> str:
    """The place of an attribute in its JSON object (RFC 6901), for DuckDB, whose paths know no empty name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def example(view: View, weighting: Weighting, epoch: int, identity: str) -> dict[str, Any]:
    """Everything of one example: its rows of an epoch and the percentile of each score, and its course.

    A percentile is the share of the epoch's rows, in percent, with a smaller value, half of those with an equal one.

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
    now = [row for row in course if row["epoch"] == epoch]
    shown = dict((now or course)[-1])
    percentiles = _percentiles(view, weighting, epoch, shown)
    add_attributes(view, [shown])
    shown["logits"], shown["probabilities"] = _probabilities(view, shown)
    del shown["log_loss"]
    for row in course:
        del row["attributes"], row["log_loss"]
    return {**shown, "percentiles": percentiles, "course": course}


def _percentiles(view: View, weighting: Weighting, epoch: int, row: Mapping[str, Any]) -> dict[str, float | None]:
    columns = {name: SORTABLE[name] for name in SCORE_NAMES}
    parts = [
        f"(count(*) FILTER ({column} < ?) + 0.5 * count(*) FILTER ({column} = ?)) / nullif(count(*), 0) * 100 AS {name}"
        for name, column in columns.items()
    ]
    values = [row[column] for column in columns.values() for _ in range(2)]
    found = view.row(f"SELECT {', '.join(parts)} FROM {view.scored(weighting, epoch)}", values)
    return {name: None if value is None else float(value) for name, value in found.items()}


def _probabilities(view: View, row: Mapping[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    sql = f"SELECT logits FROM {view.stored(row['epoch'])} WHERE id = ? AND batch = ? AND row = ?"
    logits = view.row(sql, [row["id"], row["batch"], row["row"]])["logits"]
    if logits is None:
        return None, None
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    return logits, [weight / sum(weights) for weight in weights]


def _cursor(row: Mapping[str, Any], order: Order, listing: str) -> str:
    # Floats in hex: the next page begins at exactly this value.
    values = [value.hex() if isinstance(value, float) else value for value in (row[name] for name, _ in order.columns)]
    text = orjson.dumps({"of": listing, "last": values})
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _last_values(cursor: str, order: Order, listing: str) -> list[Any]:
    try:
        fields = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # Of another listing it has no values.
        last = fields["last"] if fields["of"] == listing else ()
        return [_read(column, value) for value, (column, _) in zip(last, order.columns, strict=True)]
    except (ValueError, KeyError, TypeError, binascii.Error) as err:
        msg = "the cursor is not one that a page of this order, epoch and loss gave; name the epoch to stay with it"
        raise InvalidRequestError(msg, errors=[{"loc": ["query", "cursor"], "msg": msg}]) from err


def _read(column: str, value: Any) -> Any:
    """A value of a cursor; nobody vouches that it is still as it was given."""
    if column in INTEGERS:
        if not isinstance(value, int) or abs(value) >= 2**31:
            raise TypeError(f"{column} is an integer")
        return value
    if not isinstance(value, str):
        raise TypeError(f"{column} is a text")
    return value if column in TEXTS else float.fromhex(value)
