"""`/runs/{run}/label-studio`: a run as a Label Studio ML backend, a labelling configuration, and the webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, NotRequired

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, JsonValue
from starlette.responses import Response
from typing_extensions import TypedDict

from service.api.annotations import store_annotations
from service.api.http.openapi import BODY, ROWS, RUN, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.responses import json_response
from service.api.principals import least_role, principal_of
from service.api.queries import ToolQuery
from service.api.receive import any_json, read_json
from service.api.state import service_of
from service.errors import UnknownEpochError, UnknownExampleError
from service.exports.label_studio import labelling_config
from service.exports.label_studio_backend import (
    MAX_CONFIG_CHARACTERS,
    MAX_TASKS,
    PredictRequest,
    health_reply,
    predict_reply,
    setup_reply,
    versions_reply,
)
from service.exports.options import class_labels, export_options
from service.exports.rows import ExportOptions, ExportRow
from service.exports.source import epoch_rows
from service.exports.tool_rows import element_parts, tool_rows
from service.mining.visibility import seen_history
from service.queries.view import View
from service.schema.json_values import JsonObject
from service.schema.replies.exports import AnnotationsReply, HealthReply, PredictReply, SetupReply, VersionsReply
from service.tool_reviews.label_studio import read_event

# Label Studio sends whole tasks, with their annotations and predictions.
MAX_TASKS_BYTES = 32 * 1024 * 1024
TASKS_EXAMPLE = {"one": {"tasks": [{"id": 1, "data": {"external_id": "a", "text": "a cat"}}]}}
EVENT_EXAMPLE = {
    "annotation": {
        "action": "ANNOTATION_CREATED",
        "task": {"id": 1, "data": {"external_id": "a"}},
        "annotation": {
            "id": 7,
            "completed_by": 1,
            "updated_at": "2026-11-30T00:25:09.720531Z",
            "result": [{"from_name": "label", "type": "choices", "value": {"choices": ["cat"]}}],
        },
    }
}

router = APIRouter(prefix="/runs/{run}/label-studio", tags=["label studio"])


class PredictBody(TypedDict):
    """The tasks that need predictions, and the labelling configuration of their project as XML."""

    tasks: Annotated[list[JsonObject], Field(max_length=MAX_TASKS)]
    label_config: NotRequired[Annotated[str, Field(max_length=MAX_CONFIG_CHARACTERS)] | None]


@router.get(
    "/config",
    summary="Get a labelling configuration that fits the export",
    response_class=Response,
    responses={
        200: {"content": {"application/xml": {"schema": {"type": "string"}}}},
        **problems(*ROWS, UnknownEpochError),
    },
    dependencies=[Depends(refuse_repeated_parameters)],
)
async def get_config(request: Request, run: RunName, query: Annotated[ToolQuery, Query()]) -> Response:
    """XML for a Label Studio project: the data, the given label or the reason, and the labels to choose from."""

    def work(view: View) -> str:
        return labelling_config(
            class_labels(view), export_options(view, None, view.snapshot.epoch(), 0, query.tool_names)
        )

    return Response(await service_of(request).runs.ask(run, work), media_type="application/xml")


@router.get(
    "",
    summary="Check the Label Studio ML backend",
    response_model=HealthReply,
    responses=problems(*RUN),
)
@router.get(
    "/health",
    summary="Check the Label Studio ML backend",
    response_model=HealthReply,
    responses=problems(*RUN),
)
async def get_health(request: Request, run: RunName) -> Response:
    """To use the run as the model of a project, add `http://HOST/runs/RUN/label-studio` to the project."""
    service = service_of(request)
    await service.runs.do(lambda: service.runs.store.manifest(run))
    return json_response(health_reply())


@router.post(
    "/setup",
    summary="Set up a project of Label Studio",
    response_model=SetupReply,
    responses=problems(*BODY, *ROWS, UnknownEpochError),
    openapi_extra=json_body(JsonValue, {"project": {"project": "1", "schema": "<View/>"}}),
)
@least_role("reader")
async def post_setup(request: Request, run: RunName) -> Response:
    """The version of the predictions. The body is not used."""
    await read_json(request, any_json)
    return await service_of(request).runs.reply(run, lambda view: setup_reply(_options(view)))


@router.get(
    "/versions",
    summary="List the versions of the predictions",
    response_model=VersionsReply,
    responses=problems(*ROWS, UnknownEpochError),
)
async def get_versions(request: Request, run: RunName) -> Response:
    """The version of the predictions of the last epoch, `focal-RUN/EPOCH`; Label Studio orders tasks by it if it is the
    title of the backend."""
    return await service_of(request).runs.reply(run, lambda view: versions_reply(_options(view)))


@router.post(
    "/predict",
    summary="Predict labels for tasks of Label Studio",
    response_model=PredictReply,
    responses=problems(*BODY, *ROWS, UnknownEpochError),
    openapi_extra=json_body(PredictBody, TASKS_EXAMPLE),
)
@least_role("reader")
async def post_predict(request: Request, run: RunName) -> Response:
    """Predictions from the run's last epoch, by the `external_id` in the data of each task."""
    service = service_of(request)
    body = await read_json(request, any_json, max_bytes=MAX_TASKS_BYTES)

    def work(view: View) -> PredictReply:
        predict_request = PredictRequest.parse(body)
        verdicts = seen_history(service.runs.store, view.snapshot, principal_of(request)).verdicts

        options = _options(view)

        def lookup(ids: Sequence[str]) -> Mapping[str, ExportRow]:
            rows = epoch_rows(view, view.weighting(), options.epoch, verdicts, list(ids))
            if view.is_structured:
                parts = element_parts("label-studio", options.task)
                rows = tool_rows(view, service.runs.queries.temporary.path(), rows, verdicts, options, parts, ids)
            return {row.id: row for row in rows}

        return predict_reply(predict_request, lookup, options)

    return await service.runs.reply(run, work)


@router.post(
    "/webhook",
    summary="Store annotations of Label Studio as reviews",
    status_code=201,
    response_model=AnnotationsReply,
    response_description="Reviews are stored.",
    responses={
        200: {"model": AnnotationsReply, "description": "Another event, or annotations that are stored already."},
        **problems(*BODY, *ROWS, UnknownExampleError),
    },
    openapi_extra=json_body(JsonValue, EVENT_EXAMPLE),
)
@least_role("reviewer")
async def post_webhook(request: Request, run: RunName) -> Response:
    """Annotations that are created, changed, skipped or deleted become reviews by `label-studio:<number of the user>`.
    A choice that equals the given label is `ok`, another one `wrong`, a skipped task `unsure`. Delivering an event
    again changes nothing."""
    event = await read_json(request, partial(read_event, run=run), max_bytes=MAX_TASKS_BYTES)
    return await store_annotations(service_of(request), run, event)


def _options(view: View) -> ExportOptions:
    epoch = view.snapshot.epoch()
    return export_options(view, None, epoch, max(1, view.num_examples(epoch)))
