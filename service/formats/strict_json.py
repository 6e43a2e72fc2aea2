"""JSON without duplicate names in an object."""

from __future__ import annotations

import json
from typing import Any

import orjson
import simdjson

from service.formats.arrays import Body

MAX_LOOKUPS = 256


def read_strict_json(text: bytes | Body) -> Any:
    """Parse a document; a number that does not fit into 64 bits becomes a float.

    Duplicate names are found in objects inside an array only if its first item is an object or an array. No request
    may have an array that mixes these with other values, so its reader rejects such an array anyway.

    Args:
        text: UTF-8.

    Raises:
        ValueError: The text is not JSON, is nested too deep, or has a duplicate name in an object.
    """
    try:
        return _plain(simdjson.Parser().parse(text))
    except (ValueError, RuntimeError):
        return _read_slowly(text)


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        names = [*value.keys()]
        # simdjson searches a name from the start of the object, and a NUL ends the name.
        if len(names) > MAX_LOOKUPS or any("\0" in name for name in names):
            raise ValueError("names that simdjson finds slowly or not at all")
        return _unique([(name, _plain(value[name])) for name in names])
    if isinstance(value, simdjson.Array):
        nested = len(value) > 0 and isinstance(value[0], simdjson.Object | simdjson.Array)
        return [_plain(item) for item in value] if nested else value.as_list()
    return value


def _read_slowly(text: bytes | Body) -> Any:
    """Parse by the standard library: many names, large numbers, and errors, for which it has better messages."""
    try:
        # From bytes, json would accept UTF-16 and UTF-32 too.
        json.loads(bytes(text).decode(), object_pairs_hook=_unique)
    except RecursionError as err:
        raise ValueError(str(err)) from err
    return orjson.loads(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a duplicate name")
    return members
