"""`/runs/{run}/export`, and a run as a Label Studio ML backend."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from service.api.http.body import read_json
from service.api.http.openapi import PROBLEMS
from service.api.http.query import Query
from service.api.http.responses import json_response
from service.api.http.run_openapi import EXPORT_PREVIEW_QUERY, EXPORT_QUERY, LABEL_STUDIO_BODY
from service.api.state import Service, service_of
from service.errors import InvalidRequestError
from service.exports.formats import ExportFormat, find_format
from service.exports.label_studio import labelling_config
from service.exports.label_studio_backend import health_reply, predict_reply, setup_reply, webhook_reply
from service.exports.preview import preview
from service.exports.rows import ExportOptions, ExportRow
from service.exports.source import epoch_rows, queue_rows
from service.mining.queues import queue
from service.runs.files import storage_errors
from service.runs.queries import View
from service.schema.replies.exports import ExportPreview, PredictReply

TOOL_OPTIONS = ("from_name", "to_name", "data_key", "object_tag", "image_key", "image_root")
EXPORT_PARAMETERS = ("queue", "format", "epoch", "alpha", "gamma", *TOOL_OPTIONS)
PREVIEW_ROWS, MAX_PREVIEW_ROWS = 3, 20
MAX_TASKS_BYTES = 64 * 1024 * 1024

router = APIRouter(prefix="/runs/{run}", tags=["runs"], responses=PROBLEMS)


@router.get("/export", summary="A queue, or a whole epoch, for a labelling tool", openapi_extra=EXPORT_QUERY)
async def get_export(request: Request, run: str) -> Response:
    """A file in the format of Label Studio, Argilla or FiftyOne, or CSV, JSONL or Parquet. Without `queue` all examples
    of the epoch, the largest loss first."""
    service = service_of(request)
    query = Query(request, *EXPORT_PARAMETERS)
    written = find_format(query.text("format") or "jsonl")

    def work(view: View) -> str:
        options, rows = _export(service, view, query)
        # Written to the end first: an error is an answer, not a file that breaks off.
        with storage_errors():
            handle, path = tempfile.mkstemp(prefix="focal-loss-export-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.writelines(written.write(rows, options))
            except BaseException:
                os.unlink(path)
                raise
        return path

    path = await service.runs.ask(run, work)
    name = _file_name(query, run, written)
    return FileResponse(path, media_type=written.media_type, filename=name, background=BackgroundTask(os.unlink, path))


@router.get("/export/preview", summary="The first rows of an export, checked", openapi_extra=EXPORT_PREVIEW_QUERY)
async def get_export_preview(request: Request, run: str) -> Response:
    """What the same query of `/export` writes for the first rows; what the tool's own validator, where there is one,
    says of them; and notes for who loads the file."""
    service = service_of(request)
    query = Query(request, *EXPORT_PARAMETERS, "rows")
    written = find_format(query.text("format") or "jsonl")
    wanted = query.integer("rows", least=1, most=MAX_PREVIEW_ROWS) or PREVIEW_ROWS

    def work(view: View) -> ExportPreview:
        options, rows = _export(service, view, query)
        return {
            "format": written.name,
            "file_name": _file_name(query, run, written),
            "media_type": written.media_type,
            "num_rows": options.total,
            **preview(written.name, list(islice(rows, wanted)), options, _labels(view)),
        }

    return json_response(await service.runs.ask(run, work))


def _file_name(query: Query, run: str, written: ExportFormat) -> str:
    return f"{query.text('queue') or run}{written.ending}"


def _export(service: Service, view: View, query: Query) -> tuple[ExportOptions, Iterator[ExportRow]]:
    store, name = service.runs.store, query.text("queue")
    last = store.reviews(view.snapshot).verdicts
    if name is not None:
        held = queue(store, view.snapshot, name)
        options = _options(view, query, name, held["epoch"], len(held["rows"]))
        return options, queue_rows(view, held["rows"], last)
    epoch = query.epoch(view)
    total = view.row(f"SELECT count(DISTINCT id) AS n FROM {view.stored(epoch)}")["n"]
    return _options(view, query, None, epoch, total), epoch_rows(view, query.weighting(view), epoch, last)


def _options(view: View, query: Query, queue_name: str | None, epoch: int, total: int) -> ExportOptions:
    given = {name: value for name in TOOL_OPTIONS if (value := query.text(name)) is not None}
    description = view.snapshot.description
    return ExportOptions(
        run=view.snapshot.name,
        queue=queue_name,
        config_id=description.config.config_id,
        epoch=epoch,
        total=total,
        class_names=description.class_names,
        **given,
    )


@router.get("/label-studio/config", summary="A labelling configuration that fits the export")
async def label_studio_config(request: Request, run: str) -> Response:
    """XML for a Label Studio project: the data, the given label, and the run's classes to choose from."""
    query = Query(request, *TOOL_OPTIONS)

    def work(view: View) -> str:
        return labelling_config(_labels(view), _options(view, query, None, view.snapshot.epoch(), 0))

    return Response(await service_of(request).runs.ask(run, work), media_type="application/xml")


def _labels(view: View) -> tuple[str, ...]:
    """The names of the classes, their numbers where they have none."""
    names = view.snapshot.description.class_names
    return names or tuple(str(label) for label in range(view.snapshot.num_classes or 0))


@router.get("/label-studio", summary="Label Studio ML backend: up")
@router.get("/label-studio/health", summary="Label Studio ML backend: up")
async def label_studio_health(request: Request, run: str) -> Response:
    """Add `http://HOST/runs/RUN/label-studio` to a project as its model."""
    service = service_of(request)
    await service.runs.do(lambda: service.runs.store.manifest(run))
    return json_response(health_reply())


@router.post("/label-studio/setup", summary="Label Studio ML backend: a project takes this model")
async def label_studio_setup(request: Request, run: str) -> Response:
    """The version under which the predictions come."""
    await read_json(request)
    answer = await service_of(request).runs.ask(run, lambda view: setup_reply(_backend_options(view)))
    return json_response(answer)


@router.post("/label-studio/predict", summary="Label Studio ML backend: predictions", openapi_extra=LABEL_STUDIO_BODY)
async def label_studio_predict(request: Request, run: str) -> Response:
    """What the run's last epoch says of each task, found by `data.external_id`."""
    service = service_of(request)
    body = await read_json(request, max_bytes=MAX_TASKS_BYTES)
    if not isinstance(body, dict) or not isinstance(body.get("tasks"), list):
        raise InvalidRequestError(
            "the body is an object with a list of tasks", errors=[{"loc": ["tasks"], "msg": "missing, or not a list"}]
        )

    def work(view: View) -> PredictReply:
        last = service.runs.store.reviews(view.snapshot).verdicts

        def lookup(ids: Sequence[str]) -> Mapping[str, ExportRow]:
            rows = epoch_rows(view, view.weighting(), view.snapshot.epoch(), last, list(ids))
            return {row.id: row for row in rows}

        return predict_reply(body["tasks"], lookup, _backend_options(view), body.get("label_config"))

    return json_response(await service.runs.ask(run, work))


@router.post("/label-studio/webhook", summary="Label Studio ML backend: an event")
async def label_studio_webhook(request: Request, run: str) -> Response:
    """Taken note of; nothing is trained here."""
    body = await read_json(request)
    status, answer = webhook_reply(body.get("action") if isinstance(body, dict) else None)
    return json_response(answer, status)


def _backend_options(view: View) -> ExportOptions:
    epoch = view.snapshot.epoch()
    return ExportOptions(
        run=view.snapshot.name,
        queue=None,
        config_id=view.snapshot.description.config.config_id,
        epoch=epoch,
        total=max(1, view.snapshot.rows(epoch)),
        class_names=view.snapshot.description.class_names,
    )
