"""`POST /loss`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.arrow_stream import ArrowStreamResponse, streams
from service.api.body import read_body
from service.api.encoding import compressed, inflated
from service.api.exchange import Exchange
from service.api.openapi import LOSS_BODY, LOSS_REPLIES
from service.api.state import Service, service_of
from service.engine import Admission
from service.evaluation import evaluate
from service.messages import LossRequest

router = APIRouter(tags=["loss"])


@router.post(
    "/loss",
    summary="Loss of batches, and what each example adds to it",
    openapi_extra=LOSS_BODY,
    responses=LOSS_REPLIES,
)
async def post_loss(request: Request) -> Response:
    """Stateless and exact: the same input gives the same result in every format and every split into batches."""
    service, settings = service_of(request), service_of(request).settings
    exchange = Exchange.of(request)
    if streams(exchange):
        return ArrowStreamResponse(service, exchange)
    with service.engine.admit() as admission:
        body = await read_body(
            request, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s, hold=admission.hold
        )
        exchange.timing.end("receive")
        content = await service.engine.run(partial(_answer, service, exchange, body, admission))
    for phase, seconds in exchange.timing.phases.items():
        service.metrics.phase.labels(phase).observe(seconds)
    return Response(content, media_type=exchange.writer.media_type, headers=exchange.reply_headers())


def _answer(service: Service, exchange: Exchange, body: bytearray, admission: Admission) -> bytes:
    """The whole way of a body to its reply, on a worker thread."""
    timing = exchange.timing
    timing.end("queue")
    body = inflated(body, exchange.request_coding, service.settings.max_body_bytes, admission.hold)
    request = exchange.reader.decode(body)
    options = exchange.options(request.options)
    timing.end("decode")
    module = service.module(options)
    result = evaluate(service.engine, module, LossRequest(options, request.batches), service.limits)
    for batch in result.batches:
        service.metrics.count(batch)
    timing.end("compute")
    content = compressed(exchange.writer.encode(result), exchange.reply_coding)
    timing.end("encode")
    return content
