"""Replies of the routes: JSON, and temporary files."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from service.schema.row_parts import RowParts
from service.storage.temporary import TemporaryFile


class TemporaryFileResponse(FileResponse):
    """A reply with the content of a file, which is deleted at its end, even if the client leaves before.

    Args:
        file: The file.
        others: Further arguments of `FileResponse`.
    """

    def __init__(self, file: TemporaryFile, **others: Any) -> None:
        super().__init__(file.path, **others)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.delete()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A reply in JSON; NaN and infinities are null."""
    return Response(json_bytes(value), status_code=status, headers=headers, media_type="application/json")


def json_bytes(value: Any) -> bytes:
    """The value in JSON; NaN and infinities are null. Other threads run between the parts of `RowParts`."""
    return orjson.dumps(value, default=_encoded_parts, option=orjson.OPT_SERIALIZE_NUMPY)


def _encoded_parts(value: object) -> orjson.Fragment:
    if not isinstance(value, RowParts):
        raise TypeError(f"{type(value).__name__} has no JSON")
    return orjson.Fragment(b"[" + b",".join(json_bytes(part)[1:-1] for part in value.parts()) + b"]")
