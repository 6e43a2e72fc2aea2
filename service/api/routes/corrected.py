"""`/runs/{run}/corrected`: the data set of a run with the labels that its reviews settle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import FileResponse, Response

from service.api.http.openapi import JSON, ROWS, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.responses import TemporaryFileResponse
from service.api.principals import principal_of
from service.api.queries import CorrectedQuery
from service.api.state import Service, service_of
from service.exports.corrected.data_set import write_corrected
from service.exports.corrected.digest import data_digest, file_digest
from service.exports.corrected.files import FORMATS
from service.mining.visibility import seen_history
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.storage.errors import storage_errors
from service.storage.temporary import TemporaryFile

router = APIRouter(prefix="/runs/{run}/corrected", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])

DIGEST_HEADER = "Focal-Loss-Digest"
_TEXT_HEADER = {"required": True, "schema": {"type": "string"}}


@router.get(
    "",
    summary="Download the corrected data set",
    response_class=FileResponse,
    response_description="The file; its media type is that of the format.",
    responses={
        200: {
            "headers": {
                "Content-Disposition": _TEXT_HEADER,
                "ETag": _TEXT_HEADER,
                DIGEST_HEADER: {**_TEXT_HEADER, "description": "Digest of the run, its reviews and the policy"},
            },
            "content": {
                written.media_type: {"schema": {} if written.media_type == JSON else {"type": "string"}}
                for written in FORMATS.values()
            },
        },
        304: {"description": "The file has the entity tag of `If-None-Match`."},
        **problems(*ROWS),
    },
)
async def get_corrected(request: Request, run: RunName, query: Annotated[CorrectedQuery, Query()]) -> Response:
    """Every example with the label to use, the given label, the status of its review, and its attributes in columns of
    their own. The same run and reviews give the same bytes."""
    service, known = service_of(request), request.headers.get("If-None-Match", "")

    def work(view: View) -> tuple[dict[str, str], TemporaryFile | None]:
        history = seen_history(service.runs.store, view.snapshot, principal_of(request))
        data = data_digest(view, history, query.policy)
        tag = f'"{file_digest(data, query.model_dump())}"'
        headers = {"ETag": tag, DIGEST_HEADER: data}
        return headers, None if _has_tag(known, tag) else _write(service, view, history, query)

    headers, file = await service.runs.ask(run, work)
    if file is None:
        return Response(status_code=304, headers=headers)
    written = FORMATS[query.format]
    name = f"{run}-corrected{written.ending}"
    return TemporaryFileResponse(file, headers=headers, media_type=written.media_type, filename=name)


def _write(service: Service, view: View, history: ReviewHistory, query: CorrectedQuery) -> TemporaryFile:
    """The complete file, so that an error gets a reply of its own."""
    with storage_errors("the folder for exports"):
        file = TemporaryFile(service.runs.queries.temporary.path(), "corrected-")
        try:
            with file.path.open("wb") as opened:
                write_corrected(opened, view, history, query.format, query.options)
        except BaseException:
            file.delete()
            raise
    return file


def _has_tag(known: str, tag: str) -> bool:
    """True if the value of `If-None-Match` has an entity tag."""
    return known.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in known.split(","))
