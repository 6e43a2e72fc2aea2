"""Types of decoded JSON.

A reply whose members are known is a TypedDict of `service.schema.replies`; these types are for free JSON.
"""

from __future__ import annotations

from typing import TypeAlias

from pydantic import JsonValue

__all__ = ["JsonObject", "JsonValue"]

JsonObject: TypeAlias = dict[str, JsonValue]
