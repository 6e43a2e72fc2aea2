"""`/runs/{run}/reviews`: verdicts of people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import BODY, ROWS, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.principals import least_role, principal_of
from service.api.queries import ReviewsQuery
from service.api.receive import any_json, read_json
from service.api.state import service_of
from service.errors import ReviewConflictError, UnknownExampleError
from service.mining.progress import progress
from service.mining.reviews import ReviewRequest, add_reviews
from service.mining.verdict_warnings import verdict_warnings
from service.queries.view import View
from service.schema.replies.reviews import AddedReviews, Reviews

REVIEW_EXAMPLES = {
    "two": [{"id": "a", "verdict": "ok"}, {"id": "b", "verdict": "wrong", "label": 2, "reviewer": "kim"}],
    "of a span": [{"id": "a", "unit": [3, 5], "verdict": "wrong", "label": 2, "queue": "monday"}],
}

router = APIRouter(prefix="/runs/{run}", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.post(
    "/reviews",
    summary="Add reviews",
    status_code=201,
    response_model=AddedReviews,
    response_description="All reviews are stored.",
    responses=problems(*BODY, *ROWS, UnknownExampleError, ReviewConflictError),
    openapi_extra=json_body(list[ReviewRequest], REVIEW_EXAMPLES),
)
@least_role("reviewer")
async def post_reviews(request: Request, run: RunName) -> Response:
    """Store all reviews of a list, or none. The last verdict on an example or a unit counts; null withdraws it."""
    service, value = service_of(request), await read_json(request, any_json)
    store, who = service.runs.store, principal_of(request)

    def work(view: View) -> AddedReviews:
        added = add_reviews(store, view, value, who)
        folder = store.review_folder(view.snapshot)
        service.runs.merge_later(folder, len(folder.live()))
        ids = [review["review"] for review in added]
        return {"added": len(added), "reviews": ids, **progress(store, view.snapshot, folder.history())}

    return await service.runs.reply(run, work, 201)


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
