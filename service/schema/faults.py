"""Errors of invalid requests: from a fault at one place, and from pydantic's validation errors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import ValidationError

from service.errors import ErrorItem, InvalidConfigError, InvalidRequestError, LossServiceError

ErrorT = TypeVar("ErrorT", bound=LossServiceError)
# Members that are unions: pydantic puts the name of a branch, such as `constrained-int`, into the loc of their errors.
UNIONS = {"alpha", "annotator", "divisor", "id", "label", "per_class", "within"}
MAX_ITEMS, MAX_CHARACTERS = 100, 100
BRANCHES = re.compile(
    r"single|per_class|class_counts|name|number|top_share|(constrained-)?(int|str)|(literal|dict)\[.*\]"
)


def fault(
    kind: type[ErrorT],
    msg: str,
    *loc: str | int,
    batch: int | None = None,
    row: int | None = None,
    element: Sequence[int] = (),
    column: int | None = None,
    detail: str | None = None,
) -> ErrorT:
    """Build an error with one error item.

    `fault(InvalidLogitError, "logit NaN", "logits", batch=0, row=17, element=[5, 6], column=3)` has the detail
    "batch 0, row 17, element [5, 6], column 3: logit NaN" and the loc `["batches", 0, "logits", 17, 5, 6, 3]`.

    Args:
        kind: Class of the error.
        msg: Message of the item.
        loc: Path to the faulty value: in the batch if `batch` is set, else in the request.
        batch: Number of the batch; begins the loc and the detail.
        row: Row in the batch, an example; follows `loc`, and is part of the detail.
        element: Index of an element of the row, along the axes of its targets; the same, after `row`. Empty: the row
            has one element, or the error is about all of them.
        column: Class or label of the element; the same, after `element`.
        detail: The detail after the place; `msg` by default.
    """
    numbers = {"batch": batch, "row": row, "element": element_text(element), "column": column}
    place = ", ".join(f"{name} {number}" for name, number in numbers.items() if number is not None)
    path: list[str | int] = [] if batch is None else ["batches", batch]
    path += [_shortened(part) for part in (*loc, row, *element, column) if part is not None]
    text = msg if detail is None else detail
    return kind(f"{place}: {text}" if place else text, errors=[{"loc": path, "msg": msg}])


def element_text(index: Sequence[int]) -> str | None:
    """Index of an element in a message: `5`, or `[5, 6]` along several axes; None for an empty one."""
    if len(index) < 2:
        return str(index[0]) if index else None
    return str([*index])


def _shortened(part: str | int) -> str | int:
    return part[:MAX_CHARACTERS] if isinstance(part, str) else part


def unknown_fault(kind: type[ErrorT], what: str, name: str, known: Collection[str], *loc: str | int) -> ErrorT:
    """Build the error of an unknown name, such as "unknown sort key 'x'; known are loss, id"."""
    return fault(kind, f"unknown {what} {name[:100]!r}; known are {', '.join(known)}", *loc)


def validation_fault(kind: type[ErrorT], err: ValidationError, *prefix: str | int) -> ErrorT:
    """Build an error with an item for each of pydantic's first 100 errors; `prefix` begins the loc of each."""
    items = error_items(err, prefix)
    return kind(summary(items, err.error_count()), errors=items)


def request_fault(err: ValidationError) -> InvalidRequestError:
    """Build the error of a request with a `config`: InvalidConfigError if every fault is in it."""
    in_config = all(error["loc"][:1] == ("config",) for error in err.errors(include_url=False, include_input=False))
    return validation_fault(InvalidConfigError if in_config else InvalidRequestError, err)


def error_items(err: ValidationError, prefix: Sequence[str | int]) -> list[ErrorItem]:
    """Convert pydantic's first errors to error items, without the names of union branches and without large inputs."""
    return [error_item(error, prefix) for error in err.errors(include_url=False, include_context=False)[:MAX_ITEMS]]


def error_item(error: Mapping[str, Any], prefix: Sequence[str | int]) -> ErrorItem:
    """Convert one error, as pydantic and FastAPI describe it: `type`, `loc`, `msg` and `input`."""
    loc: list[str | int] = [*prefix]
    for before, part in pairwise(("", *error["loc"])):
        if before not in UNIONS or not BRANCHES.fullmatch(str(part)):
            loc.append(_shortened(part))
    if error["type"] == "extra_forbidden":
        return {"loc": loc, "msg": f"unknown field {loc[-1]!r}"}
    msg, value = error["msg"].removeprefix("Value error, "), error["input"]
    if isinstance(value, int | float | str | None) and error["type"] not in ("value_error", "missing"):
        msg += f", got {value[:100]!r}" if isinstance(value, str) else f", got {value}"
    return {"loc": loc, "msg": msg}


def summary(items: Sequence[ErrorItem], count: int | None = None) -> str:
    """One sentence for `detail`: the first item, and how many more there are.

    Args:
        items: The items, at least one.
        count: Number of all faults; by default, that of the items.
    """
    place, msg = ".".join(map(str, items[0]["loc"])), items[0]["msg"]
    first = f"{place}: {msg}" if place else msg
    further = (len(items) if count is None else count) - 1
    return f"{first} (and {further} more)" if further else first
