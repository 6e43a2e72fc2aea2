"""Replies to HTTP/1.0 clients, which do not support chunked transfer encoding (RFC 9112, 6.1).

The server sends a streamed reply in chunks. For HTTP/1.0 clients (nginx is one by default, towards its upstreams), the
middleware first collects the reply, in a temporary file if it is over 1 MiB, and sends it with its length.
"""

from __future__ import annotations

import asyncio
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WITHOUT_CHUNKS = ("0.9", "1.0")
MEMORY_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024


class BufferedReplies:
    """Gives every reply to an HTTP/1.0 client a `Content-Length`; replies to other clients pass unchanged.

    Nothing is sent before the reply is complete, so an error in the middle of it can still become an error reply.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A reply to HEAD has no body, and the length of the body of GET is not known here.
        if scope["type"] != "http" or scope["http_version"] not in WITHOUT_CHUNKS or scope["method"] == "HEAD":
            await self.app(scope, receive, send)
            return
        with SpooledTemporaryFile(MEMORY_BYTES) as collected:
            start: Message | None = None

            async def collect(message: Message) -> None:
                nonlocal start
                if message["type"] == "http.response.start" and not _has_length(message):
                    start = message
                elif start is None:
                    await send(message)
                else:
                    await asyncio.to_thread(collected.write, message.get("body", b""))
                    if not message.get("more_body", False):
                        await _send_whole(start, collected, send)

            await self.app(scope, receive, collect)


def _has_length(start: Message) -> bool:
    headers = start.get("headers", ())
    return start["status"] in (204, 304) or any(name.lower() == b"content-length" for name, _ in headers)


async def _send_whole(start: Message, body: IO[bytes], send: Send) -> None:
    length = body.tell()
    body.seek(0)
    await send({**start, "headers": [*start.get("headers", ()), (b"content-length", b"%d" % length)]})
    while chunk := await asyncio.to_thread(body.read, STEP_BYTES):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
