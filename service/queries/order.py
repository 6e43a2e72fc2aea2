"""Total orders of the rows of an epoch, and cursors: texts from which the next page goes on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import InvalidRequestError
from service.queries.element_losses import ELEMENT_COUNTS, ELEMENT_FLOATS
from service.queries.sql import Condition
from service.queries.view import SCORE_NAMES, View
from service.schema.faults import fault, unknown_fault

# Sort keys after those of the request; they make every order total.
TIES = ("id", "batch", "row")
# Sort keys of examples with one class, and of structured ones.
OF_CLASS = ("target", "prediction")
OF_ELEMENTS = (*ELEMENT_FLOATS, *ELEMENT_COUNTS)
# Name of each sort key and the column to sort by; log_loss also orders losses that underflow.
SORTABLE = {
    **{name: name for name in SCORE_NAMES},
    "loss": "log_loss",
    **{name: name for name in (*OF_CLASS, *TIES, *OF_ELEMENTS)},
}
TEXTS = ("id", "batch")
INTEGERS = (*OF_CLASS, "row", *ELEMENT_COUNTS)
# The time of a query grows with the square of its sort keys.
MAX_SORT_KEYS = 8


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

    def check(self, view: View) -> None:
        """Raise if a sort key is not one of the examples of the run.

        Raises:
            InvalidRequestError: The key is of examples with one class, and those of the run have many, or vice versa.
        """
        for name, _ in self.keys:
            if name in (OF_CLASS if view.is_structured else OF_ELEMENTS):
                msg = f"the examples of the task {view.snapshot.description.task} have no {name} to sort by"
                raise fault(InvalidRequestError, msg, "query", "sort")

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


def cursor_after(row: Mapping[str, Any], order: Order, listing: str) -> str:
    """The cursor of the page that begins after a row.

    Args:
        row: The row, with the `columns` of the order.
        order: Order of the pages.
        listing: Digest of all that must be the same for the next page.
    """
    # Hexadecimal floats are exact: the next page begins right after this row.
    values = [value.hex() if isinstance(value, float) else value for value in (row[name] for name, _ in order.columns)]
    text = orjson.dumps({"of": listing, "last": values})
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def last_values(cursor: str, order: Order, listing: str) -> list[object]:
    """Values of `Order.columns` in the row before the page of a cursor; see `cursor_after`.

    Raises:
        InvalidRequestError: The cursor is malformed, or of another order or listing.
    """
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
