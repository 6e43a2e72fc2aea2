"""Reading a request's body: once, into one buffer, within its limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from service.api.http.buffers import fresh
from service.errors import BodyTimeoutError, BodyTooLargeError, DecodeError, UnsupportedMediaTypeError


async def read_body(
    request: Request,
    declared: int | None,
    *,
    max_bytes: int,
    timeout_s: float,
    hold: Callable[[int], None] = lambda count: None,
    buffer: Callable[[int], memoryview] = lambda length: fresh(length).data,
) -> memoryview:
    """The body of a request.

    Args:
        request: Not yet read.
        declared: Its `content_length`.
        max_bytes: More is refused, before anything is read where `Content-Length` says so.
        timeout_s: Seconds for the whole body.
        hold: Called with the size of each chunk before it is kept, where no length is declared; may refuse by raising.
        buffer: Makes the memory for a body of so many bytes.

    Raises:
        BodyTooLargeError: More bytes than the limit.
        BodyTimeoutError: They did not come in time.
        DecodeError: `Content-Length` is not what came.
        ClientDisconnect: The client left.
    """
    check_length(declared, max_bytes)
    try:
        if declared is None:
            async with asyncio.timeout(timeout_s):
                return await _read_chunked(request, max_bytes, hold)
        return await _read_declared(request, buffer(declared), timeout_s)
    except TimeoutError as err:
        raise BodyTimeoutError(f"the body did not arrive in {timeout_s:g} s", headers={"Connection": "close"}) from err


def content_length(request: Request) -> int | None:
    """The bytes that a request announces; None where they come in chunks without a number.

    Raises:
        DecodeError: `Content-Length` is no number.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None if "transfer-encoding" in request.headers else 0
    return header_number("Content-Length", text)


def header_number(name: str, text: str) -> int:
    """The number >= 0 that a header holds.

    Raises:
        DecodeError: It holds none.
    """
    if not (text.isascii() and text.isdigit()):
        raise DecodeError(f"{name} {text[:50]!r} is not a number")
    # Twenty digits are past every limit; Python refuses to read more than 4300.
    return int(text.lstrip("0")[:20] or 0)


def check_length(declared: int | None, max_bytes: int) -> None:
    """Refuse a body by its declared length, before anything of it is read.

    Raises:
        BodyTooLargeError: It is more than `max_bytes`.
    """
    if declared is not None and declared > max_bytes:
        raise _too_large(declared, max_bytes)


def _too_large(count: int, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has {count} bytes or more, the limit is {limit} (max_body_bytes)")


async def _read_declared(request: Request, body: memoryview, timeout_s: float) -> memoryview:
    receive_into = request.scope.get("extensions", {}).get("receive_into") or partial(_copy_into, request)
    position = await receive_into(body, timeout_s)
    if position != len(body):
        raise DecodeError(f"Content-Length says {len(body)} bytes, {position} came")
    return body


async def _copy_into(request: Request, body: memoryview, timeout_s: float) -> int:
    """What `receive_into` does, for servers without that extension."""
    position = 0
    async with asyncio.timeout(timeout_s):
        async for chunk in _chunks(request):
            end = position + len(chunk)
            if end > len(body):
                raise DecodeError(f"Content-Length says {len(body)} bytes, more came")
            body[position:end] = chunk
            position = end
    return position


async def _read_chunked(request: Request, max_bytes: int, hold: Callable[[int], None]) -> memoryview:
    body = bytearray()
    async for chunk in _chunks(request):
        if len(body) + len(chunk) > max_bytes:
            raise _too_large(len(body) + len(chunk), max_bytes)
        hold(len(chunk))
        body += chunk
    return memoryview(body)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


MAX_JSON_BYTES = 8 * 1024 * 1024


async def read_json(request: Request, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The decoded body of a request that is small and JSON.

    Raises:
        UnsupportedMediaTypeError: It is another format.
        DecodeError: It is not JSON.
        Beside those of `read_body`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaTypeError(
            f"the body here is application/json, got {kind[:100]!r}", headers={"Accept": "application/json"}
        )
    timeout_s = request.app.state.service.settings.body_timeout_s
    body = await read_body(request, content_length(request), max_bytes=max_bytes, timeout_s=timeout_s)
    return decoded_json(body)


def decoded_json(body: memoryview) -> Any:
    """What a body says.

    Raises:
        DecodeError: It is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise DecodeError(f"the body is not JSON: {err}") from err
