"""`/runs/{run}/export`: a queue or an epoch as a file for a labelling tool."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import FileResponse, Response

from service.api.http.openapi import JSON, ROWS, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.responses import TemporaryFileResponse
from service.api.principals import principal_of
from service.api.queries import ExportQuery, PreviewQuery
from service.api.state import Service, service_of
from service.errors import InvalidConfigError, InvalidRequestError, UnknownEpochError, UnknownQueueError
from service.exports.epoch_source import num_units
from service.exports.formats import FORMATS, format_for
from service.exports.options import class_labels, export_options
from service.exports.preview import preview
from service.exports.rows import ExportOptions, ExportRow
from service.exports.source import epoch_rows, queue_rows
from service.exports.tool_rows import by_example, element_parts, first_examples, tool_rows
from service.mining.queues import queue
from service.mining.visibility import seen_history
from service.queries.view import View
from service.schema.faults import fault
from service.schema.people import Principal
from service.schema.replies.exports import ExportPreview
from service.storage.errors import storage_errors
from service.storage.temporary import TemporaryFile

router = APIRouter(prefix="/runs/{run}/export", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.get(
    "",
    summary="Export a queue or an epoch",
    response_class=FileResponse,
    response_description="The file; its media type is that of the format.",
    responses={
        200: {
            "headers": {"Content-Disposition": {"required": True, "schema": {"type": "string"}}},
            "content": {
                written.media_type: {"schema": {} if written.media_type == JSON else {"type": "string"}}
                for written in FORMATS.values()
            },
        },
        **problems(*ROWS, UnknownEpochError, UnknownQueueError, InvalidConfigError),
    },
)
async def get_export(request: Request, run: RunName, query: Annotated[ExportQuery, Query()]) -> Response:
    """A file in the format of Label Studio, Argilla or FiftyOne, or CSV, JSONL or Parquet. Without `queue` it has all
    examples of the epoch, the largest loss first; tables of labels, tokens and masks have all units."""
    service = service_of(request)
    written = FORMATS[query.format]

    def work(view: View) -> tuple[TemporaryFile, str]:
        options, rows, _ = _export(service, view, query, principal_of(request))
        # The file is complete before the reply begins, so that an error gets a reply of its own.
        with storage_errors("the folder for exports"):
            file = TemporaryFile(service.runs.queries.temporary.path(), "export-")
            digest = blake2b(digest_size=16)
            try:
                with file.path.open("wb") as opened:
                    for part in written.write(rows, options):
                        view.check()
                        opened.write(part)
                        digest.update(part)
            except BaseException:
                file.delete()
                raise
        return file, digest.hexdigest()

    file, digest = await service.runs.ask(run, work)
    # An interrupted download goes on where it ended if the file that is written for the next request is the same.
    headers = {"ETag": f'"{digest}"'}
    return TemporaryFileResponse(file, headers=headers, media_type=written.media_type, filename=_file_name(query, run))


@router.get(
    "/preview",
    summary="Preview and validate an export",
    response_model=ExportPreview,
    responses=problems(*ROWS, UnknownEpochError, UnknownQueueError, InvalidConfigError),
)
async def get_export_preview(request: Request, run: RunName, query: Annotated[PreviewQuery, Query()]) -> Response:
    """The first rows of the same query of `/export` as the file has them, the result of the labelling tool's own
    validator if there is one, and notes for loading the file."""
    service = service_of(request)

    def work(view: View) -> ExportPreview:
        options, rows, num_rows = _export(service, view, query, principal_of(request), query.rows)
        return {
            "format": query.format,
            "file_name": _file_name(query, run),
            "media_type": FORMATS[query.format].media_type,
            "num_rows": num_rows,
            **preview(query.format, list(islice(rows, query.rows)), options, class_labels(view)),
        }

    return await service.runs.reply(run, work)


def _file_name(query: ExportQuery, run: str) -> str:
    return f"{query.queue or run}{FORMATS[query.format].ending}"


def _export(
    service: Service, view: View, query: ExportQuery, who: Principal, limit: int | None = None
) -> tuple[ExportOptions, Iterator[ExportRow], int]:
    """The options of an export, its rows and their number; with a limit the elements of that many structured examples
    are read."""
    task = view.snapshot.description.task
    written = format_for(query.format, task, view.snapshot.num_classes)
    history = seen_history(service.runs.store, view.snapshot, who)
    as_units = _as_units(view, query)
    ids = None
    if query.queue is not None:
        stored = queue(service.runs.store, view.snapshot, query.queue)
        options = export_options(view, query.queue, stored.head["epoch"], len(stored), query.tool_names)
        ids = list(dict.fromkeys(stored.ids))
        in_order = by_example(stored) if view.is_structured and written.is_tool else stored
        verdicts = history.verdicts_of(stored.head["epoch"])
        rows = queue_rows(view, in_order, verdicts, for_tool=written.is_tool)
    else:
        epoch, weighting = view.snapshot.epoch(query.epoch), view.weighting(query.weights, query.gamma)
        total = num_units(view, weighting, epoch) if as_units else view.num_examples(epoch)
        options = export_options(view, None, epoch, total, query.tool_names)
        verdicts = history.verdicts_of(epoch)
        rows = epoch_rows(view, weighting, epoch, verdicts, units=as_units)
    num_rows = options.total
    if view.is_structured and written.is_tool:
        num_rows = num_rows if ids is None else len(ids)
        if limit is not None:
            some = first_examples(rows, limit)
            rows, ids = iter(some), [row.id for row in some]
        parts = element_parts(query.format, task)
        rows = tool_rows(view, service.runs.queries.temporary.path(), rows, verdicts, options, parts, ids)
    return options, rows, num_rows


def _as_units(view: View, query: ExportQuery) -> bool:
    """True if the rows of an epoch are units: by default in tables of structured examples.

    Raises:
        InvalidRequestError: The rows cannot be units.
    """
    if query.units and (not view.is_structured or FORMATS[query.format].is_tool or query.queue is not None):
        msg = "units is for csv, jsonl and parquet of a whole epoch of a run of labels, tokens or masks"
        raise fault(InvalidRequestError, msg, "query", "units")
    is_table = view.is_structured and query.queue is None and not FORMATS[query.format].is_tool
    return is_table if query.units is None else query.units
