"""`/runs/{run}/remaining`, `/agreement` and `/gain/{other}`: how good the labels and the reviews are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import ROWS, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.queries import AgreementQuery, RemainingQuery
from service.api.state import service_of
from service.errors import UnknownEpochError, UnknownQueueError
from service.mining.agreement import agreement
from service.mining.remaining import remaining
from service.queries.view import View
from service.schema.replies.agreement import Agreement
from service.schema.replies.remaining import Remaining

router = APIRouter(prefix="/runs/{run}", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.get(
    "/remaining",
    summary="Estimate the wrong labels that are left",
    response_model=Remaining,
    responses=problems(*ROWS, UnknownEpochError, UnknownQueueError),
)
async def get_remaining(request: Request, run: RunName, query: Annotated[RemainingQuery, Query()]) -> Response:
    """An exact upper bound, with 95 % confidence, of the wrong labels among the examples without a verdict, from the
    random rows of the queues; and what the next rows of a queue will find, with an interval."""
    store = service_of(request).runs.store

    def work(view: View) -> Remaining:
        epoch = view.snapshot.epoch(query.epoch)
        return remaining(store, view, epoch, queue_name=query.queue, rows=query.rows, control=query.control)

    return await service_of(request).runs.reply(run, work)


@router.get(
    "/agreement",
    summary="Measure the agreement of the reviewers",
    response_model=Agreement,
    responses=problems(*ROWS),
)
async def get_agreement(request: Request, run: RunName, query: Annotated[AgreementQuery, Query()]) -> Response:
    """Cohen's kappa of each pair of reviewers, Fleiss' kappa, and Krippendorff's alpha with a bootstrap interval; the
    hits of each reviewer on gold rows, and his use of suggestions; and a page of the conflicts."""
    store = service_of(request).runs.store

    def work(view: View) -> Agreement:
        return agreement(store, view, limit=query.limit, offset=query.offset)

    return await service_of(request).runs.reply(run, work)
