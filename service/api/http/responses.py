"""JSON replies of the routes."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A reply in JSON; NaN and infinities are null."""
    return Response(json_bytes(value), status_code=status, headers=headers, media_type="application/json")


def json_bytes(value: Any) -> bytes:
    """The value in JSON; NaN and infinities are null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
