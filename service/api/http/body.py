"""Reading a request body into one buffer, within limits of size and time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from service.api.http.buffers import new_buffer
from service.api.http.pace import InTime, Pace
from service.codecs.json_size import check_size
from service.errors import BodyTimeoutError, BodyTooLargeError, DecodeError


async def read_body(
    request: Request,
    declared: int | None,
    *,
    max_bytes: int,
    timeout_s: float,
    min_bytes_per_s: int = 0,
    hold: Callable[[int], None] = lambda count: None,
    buffer: Callable[[int], memoryview] = lambda length: new_buffer(length).data,
) -> memoryview:
    """The body of a request.

    Args:
        request: Its body must be unread.
        declared: Result of `content_length` for this request.
        max_bytes: Largest size of the body; a declared length is checked before anything is read.
        timeout_s: Seconds for the whole body.
        min_bytes_per_s: Least average rate; see `Pace`.
        hold: Called with the size of each chunk of a body without a declared length; may refuse it by raising.
        buffer: Returns writable memory of a given length in bytes.

    Raises:
        BodyTooLargeError: The body has more bytes than the limit.
        BodyTimeoutError: The body did not arrive in time.
        DecodeError: The body does not have the length that `Content-Length` declares.
        ClientDisconnect: The client closed the connection.
    """
    check_length(declared, max_bytes)
    pace = Pace(timeout_s, min_bytes_per_s)
    try:
        if declared is None:
            return await _read_chunked(request, pace, max_bytes, hold)
        return await _read_declared(request, pace, buffer(declared))
    except TimeoutError as err:
        raise BodyTimeoutError(pace.rule, headers={"Connection": "close"}) from err


def content_length(request: Request) -> int | None:
    """Value of `Content-Length`; 0 without a body, None for a chunked body.

    Raises:
        DecodeError: `Content-Length` is not a number.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None if "transfer-encoding" in request.headers else 0
    return header_number("Content-Length", text)


def header_number(name: str, text: str) -> int:
    """Value of a header as an integer >= 0.

    Raises:
        DecodeError: The value is not a number.
    """
    # Some servers leave the whitespace behind a value.
    text = text.strip(" \t")
    if not (text.isascii() and text.isdigit()):
        raise DecodeError(f"{name} {text[:50]!r} is not a number")
    # Python refuses to convert more than 4300 digits; a number of 20 digits exceeds every limit.
    return int(text.lstrip("0")[:20] or 0)


def check_length(declared: int | None, max_bytes: int) -> None:
    """Refuse a body by its declared length, before it is read.

    Raises:
        BodyTooLargeError: The length is more than `max_bytes`.
    """
    if declared is not None and declared > max_bytes:
        raise _too_large(declared, max_bytes)


def _too_large(count: int, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has {count} bytes or more, the limit is {limit} (max_body_bytes)")


async def _read_declared(request: Request, pace: Pace, body: memoryview) -> memoryview:
    receive_into = request.scope.get("extensions", {}).get("receive_into") or partial(_copy_into, request)
    position = await receive_into(body, pace.deadline)
    if position != len(body):
        raise DecodeError(f"Content-Length says {len(body)} bytes, {position} came")
    return body


async def _copy_into(request: Request, body: memoryview, deadline: Callable[[int], float]) -> int:
    """The extension `receive_into`, for servers that lack it."""
    position = 0
    async with InTime(deadline, lambda: position):
        async for chunk in _chunks(request):
            end = position + len(chunk)
            if end > len(body):
                raise DecodeError(f"Content-Length says {len(body)} bytes, more came")
            body[position:end] = chunk
            position = end
    return position


async def _read_chunked(request: Request, pace: Pace, max_bytes: int, hold: Callable[[int], None]) -> memoryview:
    body = bytearray()
    async with InTime(pace.deadline, lambda: len(body)):
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


def decoded_json(body: memoryview) -> Any:
    """The value of a JSON body.

    Raises:
        TooManyValuesError: See `check_size`.
        DecodeError: The body is not JSON.
    """
    check_size(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise DecodeError(f"the body is not JSON: {err}") from err
