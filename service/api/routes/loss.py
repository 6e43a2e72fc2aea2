"""`POST /loss`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.arrow_stream import ArrowStreamResponse, is_arrow_stream
from service.api.http.encoding import compressed
from service.api.http.exchange import Exchange
from service.api.http.openapi import LOSS, problems
from service.api.http.tensor_docs import LOSS_BODY, LOSS_REPLY
from service.api.receive import run_with_body
from service.api.state import Service, service_of
from service.schema.request import LossRequest

router = APIRouter(tags=["loss"])


@router.post(
    "/loss",
    summary="Compute the loss of batches and the contribution of each example",
    responses={**LOSS_REPLY, **problems(*LOSS)},
    openapi_extra=LOSS_BODY,
)
async def post_loss(request: Request) -> Response:
    """Stateless and exact: the same input gives the same result in every format and every split into batches."""
    service, exchange = service_of(request), Exchange.of(request)
    if is_arrow_stream(exchange):
        return ArrowStreamResponse(service, exchange)
    work = partial(_reply_to, service, exchange)
    content = await run_with_body(request, exchange.timing, exchange.request_coding, work)
    return Response(content, media_type=exchange.writer.media_type, headers=exchange.reply_headers())


def _reply_to(service: Service, exchange: Exchange, body: memoryview) -> bytes:
    """Decode the inflated body, compute the loss and encode the reply; on a worker thread."""
    request = exchange.reader.decode(body, max_bytes=service.settings.max_body_bytes)
    request = LossRequest(exchange.options(request.options), request.batches)
    result = service.evaluate(request, exchange.timing)
    content = compressed(exchange.writer.encode(result), exchange.reply_coding)
    exchange.timing.end("encode")
    return content
