"""`POST /loss`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.http.body import content_length, read_body
from service.api.http.encoding import compressed, inflated
from service.api.http.exchange import Exchange, Timing
from service.api.http.openapi import LOSS_BODY, LOSS_REPLIES
from service.api.routes.arrow_stream import ArrowStreamResponse, streams
from service.api.state import Service, service_of
from service.compute.evaluation import evaluate
from service.schema.request import LossRequest
from service.schema.result import LossResult

T = TypeVar("T")

# A smaller body is there before a turn would be.
SMALL_BODY_BYTES = 64 * 1024


class BareRoute(APIRoute):
    """A route whose endpoint takes the request alone: FastAPI documents it and has nothing to read or to solve.

    It stands among the routes of the app; an included router would go by FastAPI's own way to the endpoint.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


router = APIRouter(tags=["loss"], route_class=BareRoute)


@router.post(
    "/loss",
    summary="Loss of batches, and what each example adds to it",
    openapi_extra=LOSS_BODY,
    responses=LOSS_REPLIES,
)
async def post_loss(request: Request) -> Response:
    """Stateless and exact: the same input gives the same result in every format and every split into batches."""
    service, exchange = service_of(request), Exchange.of(request)
    if streams(exchange):
        return ArrowStreamResponse(service, exchange)
    content = await answered(request, exchange.timing, exchange.request_coding, partial(_answer, service, exchange))
    return Response(content, media_type=exchange.writer.media_type, headers=exchange.reply_headers())


async def answered(request: Request, timing: Timing, coding: str, answer: Callable[[memoryview], T]) -> T:
    """What a request's body is answered with: a place in the queue, a turn, the body, one hop to a worker thread.

    Args:
        request: Not yet read.
        timing: Gets the phases `receive` and `queue`; all of its phases are counted when the answer is there.
        coding: Of the body; see `request_coding`.
        answer: Called on the worker thread with the inflated body.

    Raises:
        QueueFullError: No place is left, for the request or for its bytes.
        Beside those of `read_body`, `inflated` and `answer`.
    """
    service = service_of(request)
    settings = service.settings

    def work(body: memoryview) -> T:
        timing.end("queue")
        return answer(inflated(body, coding, settings.max_body_bytes, admission.hold))

    with service.engine.admit() as admission:
        length = content_length(request)
        small = length is not None and length < SMALL_BODY_BYTES
        async with nullcontext(_nothing) if small else service.engine.turn() as arrived:
            body = await read_body(
                request,
                length,
                max_bytes=settings.max_body_bytes,
                timeout_s=settings.body_timeout_s,
                hold=admission.hold,
                buffer=service.buffers.take,
            )
            arrived()
            timing.end("receive")
            content = await service.engine.run(partial(work, body))
    service.metrics.count_phases(timing.phases)
    return content


def _nothing() -> None:
    """There is no turn to keep."""


def computed(service: Service, request: LossRequest, timing: Timing) -> LossResult:
    """The result of a decoded request, counted; ends the phases `decode` and `compute`."""
    timing.end("decode")
    result = evaluate(service.engine, service.module(request.options), request, service.limits)
    for batch in result.batches:
        service.metrics.count(batch)
    timing.end("compute")
    return result


def _answer(service: Service, exchange: Exchange, body: memoryview) -> bytes:
    """An inflated body to its reply, on a worker thread."""
    request = exchange.reader.decode(body, max_bytes=service.settings.max_body_bytes)
    request = LossRequest(exchange.options(request.options), request.batches)
    result = computed(service, request, exchange.timing)
    content = compressed(exchange.writer.encode(result), exchange.reply_coding)
    exchange.timing.end("encode")
    return content
