"""Checks of JSON replies against their types."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import TypeAdapter


def assert_is(kind: Any, reply: object) -> None:
    """The reply, as JSON, has the members that its type declares, with values of their types, and no other members."""
    content = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    adapter = TypeAdapter(kind)
    # Validation drops undeclared members.
    assert adapter.dump_python(adapter.validate_json(content, strict=True)) == orjson.loads(content)
