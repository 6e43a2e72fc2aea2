"""`POST /loss`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.arrow_stream import ArrowStreamResponse, is_arrow_stream
from service.api.http.encoding import compressed
from service.api.http.negotiation import Negotiation
from service.api.http.openapi import LOSS, problems
from service.api.http.tensor_docs import LOSS_BODY, LOSS_REPLY
from service.api.principals import least_role
from service.api.receive import run_with_body
from service.api.state import Service, service_of
from service.codecs.base import DecodeOptions
from service.schema.request import LossRequest

router = APIRouter(tags=["loss"])


@router.post(
    "/loss",
    summary="Compute the loss of batches and the contribution of each example",
    responses={**LOSS_REPLY, **problems(*LOSS)},
    openapi_extra=LOSS_BODY,
)
@least_role("reader")
async def post_loss(request: Request) -> Response:
    """Stateless and exact: the same input gives the same result in every format and every split into batches."""
    service, negotiation = service_of(request), Negotiation.of(request)
    if is_arrow_stream(negotiation):
        return ArrowStreamResponse(service, negotiation)
    work = partial(_reply_to, service, negotiation)
    content = await run_with_body(request, negotiation.timing, negotiation.request_coding, work)
    return Response(content, media_type=negotiation.writer.media_type, headers=negotiation.reply_headers())


def _reply_to(service: Service, negotiation: Negotiation, body: memoryview) -> bytes:
    """Decode the inflated body, compute the loss and encode the reply; on a worker thread."""
    settings = service.settings
    request = negotiation.reader.decode(
        body, DecodeOptions(max_bytes=settings.max_body_bytes, max_rows=settings.max_examples)
    )
    request = LossRequest(negotiation.options(request.options), request.batches)
    result = service.evaluate(request, negotiation.timing)
    content = compressed(negotiation.writer.encode(result), negotiation.reply_coding)
    negotiation.timing.end("encode")
    return content
