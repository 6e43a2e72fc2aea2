"""Receiving a request body within the bounds of admission, and processing it on a worker thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from starlette.requests import Request

from service.api.admission import Place
from service.api.current import current_request
from service.api.http.body import check_length, content_length, decoded_json, read_body
from service.api.http.encoding import inflated, request_coding
from service.api.http.media_types import require_media_type
from service.api.http.timing import Timing
from service.api.state import Service, service_of

T = TypeVar("T")

# Smaller bodies arrive faster than a receive slot becomes free.
SMALL_BODY_BYTES = 64 * 1024
MAX_JSON_BYTES = 8 * 1024 * 1024
# Larger JSON bodies are parsed on a thread; smaller ones take less than the way to it.
PARSED_AT_ONCE_BYTES = 4 * 1024


async def run_with_body(request: Request, timing: Timing, coding: str, work: Callable[[memoryview], T]) -> T:
    """Wait for a place, receive the body, and call `work` with it on a worker thread.

    Args:
        request: Its body must be unread.
        timing: Records the phases `receive` and `queue`; after the work, all its phases are counted in the metrics.
        coding: Coding of the body; see `request_coding`.
        work: Called on a thread with the inflated body.

    Returns:
        What `work` returns.

    Raises:
        QueueFullError: No place became free in time, or the bytes held would exceed the limit.
        Also the errors of `read_body`, `inflated` and `work`.
    """
    service, place = service_of(request), current_request().place
    max_bytes = service.settings.max_body_bytes

    async def use(body: memoryview) -> T:
        timing.end("receive")

        def inflate_and_work() -> T:
            timing.end("queue")
            return work(inflated(body, coding, max_bytes, place.hold))

        return await service.threads.run(inflate_and_work)

    result = await _with_body(service, place, request, max_bytes, use)
    place.leave()
    service.metrics.count_phases(timing.phases)
    return result


async def read_json(request: Request, parse: Callable[[Any], T], *, max_bytes: int = MAX_JSON_BYTES) -> T:
    """The parsed body of a JSON request. Its bytes are held until the reply is sent.

    Args:
        request: Its body must be unread.
        parse: Called with the decoded body, on a worker thread if the body is large.
        max_bytes: Limit of the body, inflated too.

    Raises:
        UnsupportedMediaTypeError: The body has another format.
        DecodeError: The body is not JSON.
        QueueFullError: See `run_with_body`.
        Also the errors of `read_body`, `inflated` and `parse`.
    """
    return await read_json_bytes(request, lambda body: parse(decoded_json(body)), max_bytes=max_bytes)


async def read_json_bytes(request: Request, parse: Callable[[memoryview], T], *, max_bytes: int = MAX_JSON_BYTES) -> T:
    """The parsed body of a JSON request; see `read_json`, but for `parse`, which is called with the inflated bytes."""
    require_media_type(request.headers, "application/json")
    coding = request_coding(request.headers.get("content-encoding"))
    service, place = service_of(request), current_request().place

    async def use(body: memoryview) -> T:
        def inflate_and_parse() -> T:
            return parse(inflated(body, coding, max_bytes, place.hold))

        if len(body) <= PARSED_AT_ONCE_BYTES and coding == "identity":
            return inflate_and_parse()
        return await service.threads.run(inflate_and_parse)

    value = await _with_body(service, place, request, max_bytes, use)
    place.free()
    return value


async def read_on_thread(request: Request, parse: Callable[[memoryview], T]) -> T:
    """The parsed body of a request of at most `max_body_bytes`. Its bytes are held until the reply is sent.

    Args:
        request: Its body must be unread.
        parse: Called with the inflated body on a worker thread.

    Raises:
        QueueFullError: See `run_with_body`.
        Also the errors of `read_body`, `inflated` and `parse`.
    """
    coding = request_coding(request.headers.get("content-encoding"))
    service, place = service_of(request), current_request().place
    max_bytes = service.settings.max_body_bytes

    async def use(body: memoryview) -> T:
        return await service.threads.run(lambda: parse(inflated(body, coding, max_bytes, place.hold)))

    value = await _with_body(service, place, request, max_bytes, use)
    place.free()
    return value


def any_json(value: Any) -> Any:
    """The value itself: `parse` of `read_json` for a body that is checked later."""
    return value


async def _with_body(
    service: Service, place: Place, request: Request, max_bytes: int, use: Callable[[memoryview], Awaitable[T]]
) -> T:
    """Wait for a place, receive the body, and return what `use` makes of it; a large body holds a receive slot."""
    length = content_length(request)
    check_length(length, max_bytes)
    await place.enter(length or 0)
    is_small = length is not None and length < SMALL_BODY_BYTES
    async with nullcontext(_no_slot) if is_small else service.admission.receive_slot() as arrived:
        body = await read_body(
            request,
            length,
            max_bytes=max_bytes,
            timeout_s=service.settings.body_timeout_s,
            min_bytes_per_s=service.settings.min_bytes_per_s,
            hold=place.hold,
            buffer=service.buffers.take,
        )
        arrived()
        return await use(body)


def _no_slot() -> None:
    """Small bodies have no receive slot to release."""
