"""`/runs/{run}/reviews`: verdicts of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.encoding import request_coding
from service.api.http.media_types import media_type
from service.api.http.openapi import BODY, JSON, ROWS, Operation, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.timing import Timing
from service.api.principals import least_role, principal_of
from service.api.queries import NewReviewsQuery, ReviewsQuery
from service.api.receive import read_json, run_with_body
from service.api.state import service_of
from service.codecs.base import DecodeOptions
from service.errors import (
    ForbiddenError,
    ReviewConflictError,
    TooManyColumnsError,
    TooManyExamplesError,
    UnknownExampleError,
)
from service.exports.review_files import JSON_LINES, TABLES, document_reviews, file_reviews, is_file, row_reader
from service.mining.file_reviews import FileReviews, StoredFile, add_file_reviews
from service.mining.progress import progress
from service.mining.reviews import ReviewRequest, add_reviews, with_defaults
from service.mining.verdict_warnings import verdict_warnings
from service.queries.view import View
from service.schema.replies.reviews import AddedReviews, Reviews

# A JSON document with all rows of an export or of a labelling tool; other formats have the limit of all bodies.
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
REVIEW_EXAMPLES = {
    "two": [{"id": "a", "verdict": "ok"}, {"id": "b", "verdict": "wrong", "label": 2, "reviewer": "kim"}],
    "of a span": [{"id": "a", "unit": [3, 5], "verdict": "wrong", "label": 2, "queue": "monday"}],
}

CSV_EXAMPLE = "id,verdict,label,comment\na,ok,,\nb,wrong,2,two animals\n"


def _body() -> Operation:
    """The body of `POST /reviews`: JSON, or a file."""
    operation = json_body(list[ReviewRequest], REVIEW_EXAMPLES)
    content = operation["requestBody"]["content"]
    for name in (JSON_LINES[0], *TABLES):
        content[name] = {"schema": {"type": "string"}}
    content["text/csv"]["examples"] = {"filled in": {"value": CSV_EXAMPLE}}
    return operation


router = APIRouter(prefix="/runs/{run}", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.post(
    "/reviews",
    summary="Add reviews",
    status_code=201,
    response_model=AddedReviews,
    response_description="All reviews are stored.",
    responses=problems(
        *BODY,
        *ROWS,
        UnknownExampleError,
        ReviewConflictError,
        ForbiddenError,
        TooManyColumnsError,
        TooManyExamplesError,
    ),
    openapi_extra=_body(),
)
@least_role("reviewer")
async def post_reviews(request: Request, run: RunName, query: Annotated[NewReviewsQuery, Query()]) -> Response:
    """Store all reviews of a list or a file, or none. The last verdict of a reviewer on an example or a unit counts;
    null withdraws it. A file is an export with verdicts filled in; rows that change nothing are not stored again."""
    service, who = service_of(request), principal_of(request)
    store = service.runs.store
    reviews = await _received(request, run, query.members)

    def work(view: View) -> tuple[list[str], StoredFile]:
        if isinstance(reviews, FileReviews):
            return [], add_file_reviews(store, view, reviews, who, query.queue)
        return [review["review"] for review in add_reviews(store, view, reviews, who)], StoredFile(0, 0, 0)

    ids, stored = await service.runs.ask(run, work)

    def answer(view: View) -> AddedReviews:
        folder = store.review_folder(view.snapshot)
        service.runs.merge_later(folder, len(folder.live()))
        history = folder.history()
        return {
            "added": stored.added + len(ids),
            "reviews": ids,
            "unchanged": stored.unchanged,
            "left_out": stored.left_out,
            **progress(store, view.snapshot, history),
        }

    # A second call: `ask` may repeat its work, and must not store the reviews twice.
    return await service.runs.reply(run, answer, 201)


async def _received(request: Request, run: str, defaults: Mapping[str, object]) -> object:
    """The reviews of the body: `FileReviews`, or a list of reviews that is not yet checked.

    Raises:
        UnsupportedMediaTypeError: The body is neither JSON nor a file of rows.
        Also the errors of `read_json`, `run_with_body` and `file_reviews`.
    """
    service, headers = service_of(request), request.headers
    is_json = media_type(headers) == JSON
    read = None if is_json else row_reader(headers.get("content-type"))
    manifest = await service.runs.do(lambda: service.runs.store.manifest(run), at_once=True)
    description = manifest.description
    if read is None:

        def parse(value: object) -> object:
            if is_file(value):
                return document_reviews(value, description, defaults)
            return with_defaults(value, defaults)

        return await read_json(request, parse, max_bytes=MAX_DOCUMENT_BYTES)
    limits = DecodeOptions(max_bytes=service.settings.max_body_bytes, max_rows=service.settings.max_examples)
    coding = request_coding(headers.get("content-encoding"))
    return await run_with_body(
        request, Timing(), coding, lambda body: file_reviews(read(body, limits), description, defaults)
    )


@router.get("/reviews", summary="List the reviews of a run", response_model=Reviews, responses=problems(*ROWS))
async def get_reviews(request: Request, run: RunName, query: Annotated[ReviewsQuery, Query()]) -> Response:
    """The reviews that count, in the order of their arrival, the precision of each strategy, the error rate of random
    rows, and warnings about the verdicts. `history=true` also lists reviews that a later one of the same reviewer
    replaces or withdraws."""
    store = service_of(request).runs.store

    def work(view: View) -> Reviews:
        history = store.reviews(view.snapshot)
        reviews = history.reviews if query.history else history.counting
        warnings = verdict_warnings(store, view.snapshot, history)
        return {"reviews": reviews, "warnings": warnings, **progress(store, view.snapshot, history)}

    return await service_of(request).runs.reply(run, work)
