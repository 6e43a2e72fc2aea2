"""JSON in which a name stands once in an object, as Python objects."""

from __future__ import annotations

import json
from typing import Any

import orjson
import simdjson

LOOKED_UP = 256


def read_strict_json(text: bytes) -> Any:
    """What a document says; a number past 64 bits is a float.

    An array is looked into where its first item is an object or an array. One that mixes these with plain values is
    nothing that a request may have, and is given back for its reader to refuse.

    Args:
        text: UTF-8.

    Raises:
        ValueError: It is not JSON, nested too deep, or has a name twice in one object.
    """
    try:
        return _plain(simdjson.Parser().parse(text))
    except (ValueError, RuntimeError):
        return _slowly(text)


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        names = [*value.keys()]
        # simdjson looks a name up from the object's start, and takes a NUL for the name's end.
        if len(names) > LOOKED_UP or any("\0" in name for name in names):
            raise ValueError("names that simdjson does not find, or not soon")
        return _unique([(name, _plain(value[name])) for name in names])
    if isinstance(value, simdjson.Array):
        nested = len(value) > 0 and isinstance(value[0], simdjson.Object | simdjson.Array)
        return [_plain(item) for item in value] if nested else value.as_list()
    return value


def _slowly(text: bytes) -> Any:
    """What is not for simdjson: many names, numbers past 64 bits, and faults, for which json has better words."""
    try:
        # Decoded here: given bytes, json would guess at UTF-16 and UTF-32 as well.
        json.loads(text.decode(), object_pairs_hook=_unique)
    except RecursionError as err:
        raise ValueError(str(err)) from err
    return orjson.loads(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members
