"""Validation errors of pydantic as error items of the API."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from service.errors import ErrorItem


def error_items(err: ValidationError, prefix: Sequence[str | int]) -> list[ErrorItem]:
    """pydantic's errors as ours, without the names of union branches and without echoing large inputs."""
    branches = {"single", "per_class", "class_counts"}
    items: list[ErrorItem] = []
    for error in err.errors(include_url=False, include_context=False):
        loc = [*prefix]
        for position, part in enumerate(error["loc"]):
            if not (position > 0 and error["loc"][position - 1] == "alpha" and part in branches):
                loc.append(part)
        if error["type"] == "extra_forbidden":
            items.append({"loc": loc, "msg": f"unknown field {str(loc[-1])[:100]!r}"})
            continue
        msg = error["msg"].removeprefix("Value error, ")
        if isinstance(error["input"], int | float | str | None) and error["type"] not in ("value_error", "missing"):
            msg += (
                f", got {str(error['input'])[:100]!r}" if isinstance(error["input"], str) else f", got {error['input']}"
            )
        items.append({"loc": loc, "msg": msg})
    return items


def summary(items: Sequence[ErrorItem]) -> str:
    """One sentence for `detail`: the first fault, and how many there are."""
    first = f"{'.'.join(map(str, items[0]['loc']))}: {items[0]['msg']}"
    return first if len(items) == 1 else f"{first} (and {len(items) - 1} more)"
