"""Parts of the JSON that a tool sends, which may be missing or of another type."""

from __future__ import annotations

from collections.abc import Mapping

Object = Mapping[str, object]


def json_object(value: object) -> Object:
    """The value if it is an object, else an empty object."""
    return value if isinstance(value, dict) else {}


def json_objects(value: object) -> list[Object]:
    """The objects of a list, or a single object as a list."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict)]


def json_number(value: object) -> int | None:
    """The value if it is an integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
