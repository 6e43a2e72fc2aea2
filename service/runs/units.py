"""Keys of what a verdict is about: an example, or one of its units (a label, a span of tokens, a region of a mask)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

# The unit of a whole example, as JSON.
WHOLE = "null"


class UnitKey(NamedTuple):
    """An example, or a unit of it.

    Args:
        id: Id of the example.
        unit: The unit as compact JSON: a number, `[start,stop]`, or `null` for the whole example.
    """

    id: str
    unit: str = WHOLE

    @classmethod
    def of(cls, row: Mapping[str, object]) -> UnitKey:
        """The key of a review or a row of a queue: its members `id` and `unit`, which may be missing."""
        unit = row.get("unit")
        return cls(str(row["id"])) if unit is None else cls(str(row["id"]), unit_json(unit))


def unit_json(unit: object) -> str:
    """A unit as compact JSON, as DuckDB writes it too."""
    return WHOLE if unit is None else orjson.dumps(unit).decode()
