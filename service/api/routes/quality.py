"""`/runs/{run}/remaining`, `/agreement` and `/gain/{other}`: how good the labels and the reviews are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import ROWS, problems
from service.api.http.path_types import OtherRunName, RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.principals import principal_of
from service.api.quality_queries import AgreementQuery, RemainingQuery
from service.api.queries import GainQuery
from service.api.state import service_of
from service.diagnostics.gain import gain
from service.errors import InvalidConfigError, UnknownEpochError, UnknownQueueError
from service.mining.agreement import agreement
from service.mining.remaining import remaining
from service.queries.view import View
from service.schema.replies.agreement import Agreement
from service.schema.replies.gain import Gain
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
        return agreement(store, view, principal_of(request), limit=query.limit, offset=query.offset)

    return await service_of(request).runs.reply(run, work)


@router.get(
    "/gain/{other}",
    summary="Measure the gain between two runs",
    response_model=Gain,
    responses=problems(*ROWS, UnknownEpochError, InvalidConfigError),
)
async def get_gain(
    request: Request, run: RunName, other: OtherRunName, query: Annotated[GainQuery, Query()]
) -> Response:
    """Accuracy, loss and calibration of both models on the examples that both runs have, under the given labels and
    under those that the reviews of both runs correct, with bootstrap intervals, McNemar's test, and by class. A run and
    itself: the effect of the corrected labels on one model."""
    service = service_of(request)

    def work(view: View) -> Gain:
        store = service.runs.store
        with store.reading(other) as snapshot:
            after = view.of(snapshot)
            epochs = view.snapshot.epoch(query.epoch), after.snapshot.epoch(query.other_epoch)
            verdicts = (
                store.reviews(view.snapshot).verdicts_of(epochs[0]),
                store.reviews(after.snapshot).verdicts_of(epochs[1]),
            )
            return gain((view, after), view.weighting(query.weights, query.gamma), epochs, verdicts)

    return await service.runs.reply(run, work)
