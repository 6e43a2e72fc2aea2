"""`/runs/{run}/reviews`: verdicts of people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import BODY, ROWS, Operation, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.principals import least_role, principal_of
from service.api.queries import NewReviewsQuery, ReviewsQuery
from service.api.review_bodies import AnnotationFile, ReviewList, received_reviews
from service.api.state import service_of
from service.errors import (
    ForbiddenError,
    ReviewConflictError,
    TooManyColumnsError,
    TooManyExamplesError,
    UnknownExampleError,
)
from service.exports.review_files import JSON_LINES, TABLES
from service.mining.file_reviews import FileReviews, StoredFile, add_file_reviews
from service.mining.progress import progress
from service.mining.reviews import ReviewRequest, add_reviews
from service.mining.verdict_warnings import verdict_warnings
from service.mining.visibility import seen_history
from service.queries.view import View
from service.schema.replies.reviews import AddedReviews, Reviews
from service.tool_reviews.storing import store_event

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
    body = await received_reviews(request, run, query.members)

    def work(view: View) -> tuple[list[str], StoredFile]:
        match body:
            case FileReviews():
                return [], add_file_reviews(store, view, body, who, query.queue)
            case AnnotationFile():
                stored = store_event(store, view, body.event, all_or_none=True)
                return [], StoredFile(stored.num_reviews, stored.num_unchanged, body.left_out)
            case ReviewList():
                added = add_reviews(store, view, body.value, who)
                return [review["review"] for review in added], StoredFile(len(added), 0, 0)

    ids, stored = await service.runs.ask(run, work)

    def answer(view: View) -> AddedReviews:
        folder = store.review_folder(view.snapshot)
        service.runs.merge_later(folder, len(folder.live()))
        history = folder.history()
        return {
            "added": stored.added,
            "reviews": ids,
            "unchanged": stored.unchanged,
            "left_out": stored.left_out,
            **progress(store, view.snapshot, history),
        }

    # A second call: `ask` may repeat its work, and must not store the reviews twice.
    return await service.runs.reply(run, answer, 201)


@router.get("/reviews", summary="List the reviews of a run", response_model=Reviews, responses=problems(*ROWS))
async def get_reviews(request: Request, run: RunName, query: Annotated[ReviewsQuery, Query()]) -> Response:
    """The reviews that count, in the order of their arrival, the precision of each strategy, the error rate of random
    rows, and warnings about the verdicts. `history=true` also lists reviews that a later one of the same reviewer
    replaces or withdraws."""
    store = service_of(request).runs.store

    def work(view: View) -> Reviews:
        history = store.reviews(view.snapshot)
        seen = seen_history(store, view.snapshot, principal_of(request))
        reviews = seen.reviews if query.history else seen.counting
        warnings = verdict_warnings(store, view.snapshot, history)
        return {"reviews": reviews, "warnings": warnings, **progress(store, view.snapshot, history)}

    return await service_of(request).runs.reply(run, work)
