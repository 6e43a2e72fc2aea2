"""Receiving a request body within the bounds of admission, and processing it on a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from starlette.requests import Request

from service.api.http.body import check_length, content_length, read_body
from service.api.http.encoding import inflated
from service.api.http.timing import Timing
from service.api.state import service_of

T = TypeVar("T")

# Smaller bodies arrive faster than a receive slot becomes free.
SMALL_BODY_BYTES = 64 * 1024


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
    service = service_of(request)
    settings = service.settings
    length = content_length(request)
    check_length(length, settings.max_body_bytes)
    async with service.admission.place(length or 0) as place:
        is_small = length is not None and length < SMALL_BODY_BYTES
        async with nullcontext(_no_slot) if is_small else service.admission.receive_slot() as arrived:
            body = await read_body(
                request,
                length,
                max_bytes=settings.max_body_bytes,
                timeout_s=settings.body_timeout_s,
                min_bytes_per_s=settings.min_bytes_per_s,
                hold=place.hold,
                buffer=service.buffers.take,
            )
            arrived()
            timing.end("receive")

            def inflate_and_work() -> T:
                timing.end("queue")
                return work(inflated(body, coding, settings.max_body_bytes, place.hold))

            result = await service.threads.run(inflate_and_work)
    service.metrics.count_phases(timing.phases)
    return result


def _no_slot() -> None:
    """Small bodies have no receive slot to release."""
