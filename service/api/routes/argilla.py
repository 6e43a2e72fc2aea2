"""`/runs/{run}/argilla`: the webhook of Argilla."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import JsonValue
from starlette.responses import Response

from service.api.annotations import store_annotations
from service.api.http.body import decoded_json
from service.api.http.openapi import BODY, ROWS, RUN, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.webhook_signatures import check_signature, check_signed
from service.api.principals import least_role
from service.api.queries import ArgillaQuery
from service.api.receive import read_json_bytes
from service.api.state import service_of
from service.errors import ForbiddenError, UnknownExampleError
from service.schema.replies.exports import AnnotationsReply
from service.tool_reviews.annotation import ToolEvent
from service.tool_reviews.argilla import read_event

EVENT_EXAMPLE = {
    "response": {
        "type": "response.created",
        "version": 1,
        "timestamp": "2026-11-30T00:25:09.720531Z",
        "data": {
            "id": "5644117e-0deb-4ffa-94bc-a4cac7c15dff",
            "status": "submitted",
            "values": {"label": {"value": "cat"}},
            "record": {"external_id": "a", "metadata": {"run": "pets"}},
            "user": {"username": "kim"},
            "updated_at": "2026-11-30T00:25:09.720531",
        },
    }
}

router = APIRouter(prefix="/runs/{run}/argilla", tags=["argilla"])


@router.post(
    "/webhook",
    summary="Store responses of Argilla as reviews",
    status_code=201,
    response_model=AnnotationsReply,
    response_description="Reviews are stored.",
    responses={
        200: {"model": AnnotationsReply, "description": "Another event, or a response that is stored already."},
        **problems(*BODY, *RUN, *ROWS, UnknownExampleError, ForbiddenError),
    },
    openapi_extra=json_body(JsonValue, EVENT_EXAMPLE),
    dependencies=[Depends(refuse_repeated_parameters)],
)
# The signature takes the place of a key, which Argilla cannot send.
@least_role("reader")
async def post_webhook(request: Request, run: RunName, query: Annotated[ArgillaQuery, Query()]) -> Response:
    """Responses that are created, changed, discarded or deleted become reviews by `argilla:<user name>`. The request
    needs a Standard Webhooks signature with the secret of the setting `argilla_webhook_secret`, and no key. Delivering
    an event again changes nothing."""
    service = service_of(request)
    secret = service.settings.argilla_webhook_secret.get_secret_value()
    if not secret:
        raise ForbiddenError("the service takes no events of Argilla: its setting argilla_webhook_secret is not set")
    check_signed(request.headers)

    def parse(body: memoryview) -> ToolEvent:
        check_signature(secret, request.headers, bytes(body))
        return read_event(decoded_json(body), run, query.dataset)

    return await store_annotations(service, run, await read_json_bytes(request, parse))
