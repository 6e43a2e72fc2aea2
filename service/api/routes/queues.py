"""`/runs/{run}/queues`: rows to review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import BODY, ROWS, RUN, json_body, problems
from service.api.http.path_types import QueueName, RunName
from service.api.http.query_types import ATTRIBUTE_PARAMETERS, refuse_repeated_parameters
from service.api.principals import caller, least_role, require_role
from service.api.queries import NewQueueQuery, NextQuery, QueueQuery, ReviewerQuery
from service.api.receive import read_json
from service.api.state import service_of
from service.errors import (
    InvalidConfigError,
    InvalidRequestError,
    QueueConflictError,
    QueueFullError,
    UnknownEpochError,
    UnknownQueueError,
)
from service.mining.gold import gold_keys
from service.mining.leases import give_back
from service.mining.listing import QueueFilter
from service.mining.queue_pages import next_page, queue_page, queue_reply
from service.mining.queue_table import QueueTable
from service.mining.queues import create_queue, delete_queue, outlines, preview, queue, rename_queue
from service.mining.requests import QueueRename, QueueRequest
from service.queries.view import View
from service.runs.run_classes import RunClasses
from service.schema.replies.queues import LeasedRows, Queue, QueueList, QueuePage

QUEUE_EXAMPLES = {
    "recommended": {"budget": 50},
    "margin": {"strategy": "logit_margin", "budget": 50},
    "with a control": {
        "strategy": "mix",
        "mix": {"area_under_margin": 0.8, "random": 0.2},
        "budget": 100,
        "exclude_reviewed": False,
    },
    "of some": {"strategy": "top_loss", "only": {"target": 1, "ranges": {"loss": [1.0, None]}}},
    "of labels, spans or regions": {"strategy": "top_loss", "units": True, "at_most": {"count": 3}},
    "by class": {"name": "monday", "strategy": "top_loss", "budget": 100, "per_class": "equal"},
}
router = APIRouter(prefix="/runs/{run}", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.post(
    "/queues",
    summary="Create a queue",
    status_code=201,
    response_model=QueuePage,
    response_description="The queue is new.",
    responses={
        200: {"model": QueuePage, "description": "The queue exists with the same request, or this is a preview."},
        **problems(*BODY, *ROWS, UnknownEpochError, InvalidConfigError, QueueConflictError),
    },
    openapi_extra=json_body(QueueRequest, QUEUE_EXAMPLES),
)
@least_role("reader")
async def post_queue(request: Request, run: RunName, query: Annotated[NewQueueQuery, Query()]) -> Response:
    """Choose and store the rows to review next. Another request for the name of a queue is a conflict. `alpha` and
    `gamma` rank by another loss; `preview=true` replies with the queue and stores nothing."""
    service = service_of(request)
    store = service.runs.store
    if not query.preview:
        require_role(request, "owner")
    queue_request = await read_json(request, QueueRequest.parse)
    if queue_request.reviewers:
        # Its suggestions follow from all verdicts, also from hidden ones.
        require_role(request, "owner")

    def work(view: View) -> tuple[QueueTable, bool]:
        epoch = view.snapshot.epoch() if queue_request.epoch is None else queue_request.epoch
        verdicts = store.reviews(view.snapshot).verdicts_of(epoch)
        gold = gold_keys(verdicts) if queue_request.gold else []
        weighting = view.weighting(query.weights, query.gamma)
        if query.preview:
            return preview(store, view, queue_request, weighting, verdicts, gold), False
        return create_queue(store, view, queue_request, weighting, verdicts, gold)

    created, new = await service.runs.ask(run, work)
    # A second call: `ask` may repeat its work, and must not create a second queue.
    return await service.runs.reply(
        run, lambda view: queue_page(store, view, created, QueueFilter(), caller(request)), 201 if new else 200
    )


@router.get("/queues", summary="List the queues of a run", response_model=QueueList, responses=problems(*ROWS))
async def list_queues(request: Request, run: RunName) -> Response:
    """Queues by name, without their rows."""
    service = service_of(request)

    def work(view: View) -> QueueList:
        history, task = service.runs.store.reviews(view.snapshot), view.snapshot.description.task
        return {"queues": [queue_reply(one, history, task) for one in outlines(service.runs.store, view.snapshot)]}

    return await service.runs.reply(run, work)


@router.get(
    "/queues/{queue_name}",
    summary="List the rows of a queue",
    response_model=QueuePage,
    responses=problems(*ROWS, UnknownQueueError),
    openapi_extra=ATTRIBUTE_PARAMETERS,
)
async def get_queue(
    request: Request, run: RunName, queue_name: QueueName, query: Annotated[QueueQuery, Query()]
) -> Response:
    """Rows with their scores, reason, attributes and verdict: those that the filters leave, in an order, `limit` of
    them from `offset` on or around a rank. `attribute.NAME=text` filters by a whole attribute."""
    store = service_of(request).runs.store

    def work(view: View) -> QueuePage:
        queue_filter = query.filter(RunClasses(view.snapshot))
        who = caller(request, query.reviewer)
        return queue_page(store, view, queue(store, view.snapshot, queue_name), queue_filter, who)

    return await service_of(request).runs.reply(run, work)


@router.delete(
    "/queues/{queue_name}",
    summary="Delete a queue",
    status_code=204,
    response_description="The queue is deleted.",
    responses=problems(*RUN, UnknownQueueError),
)
async def remove_queue(request: Request, run: RunName, queue_name: QueueName) -> Response:
    """The queue cannot be restored; the reviews of its rows stay."""
    work, store = service_of(request).runs, service_of(request).runs.store
    await work.do(lambda: delete_queue(store, store.snapshot(run), queue_name))
    return Response(status_code=204)


@router.patch(
    "/queues/{queue_name}",
    summary="Rename a queue",
    response_model=Queue,
    responses=problems(*BODY, *ROWS, UnknownQueueError, QueueConflictError),
    openapi_extra=json_body(QueueRename, {"rename": {"name": "monday"}}),
)
async def patch_queue(request: Request, run: RunName, queue_name: QueueName) -> Response:
    """The queue under its new name. A name that another queue has is a conflict."""
    work, store = service_of(request).runs, service_of(request).runs.store
    rename = await read_json(request, QueueRename.parse)

    def reply(view: View) -> Queue:
        history, task = store.reviews(view.snapshot), view.snapshot.description.task
        return queue_reply(queue(store, view.snapshot, rename.name), history, task)

    await work.do(lambda: rename_queue(store, store.snapshot(run), queue_name, rename.name))
    return await work.reply(run, reply)


@router.post(
    "/queues/{queue_name}/next",
    summary="Lease the next rows of a queue",
    response_model=LeasedRows,
    responses=problems(*ROWS, UnknownQueueError, QueueFullError),
)
@least_role("reviewer")
async def lease_next(
    request: Request, run: RunName, queue_name: QueueName, query: Annotated[NextQuery, Query()]
) -> Response:
    """The next rows to review, for `lease_s` seconds: meanwhile no more reviewers get a row than the `overlap` of the
    queue. The rows that the caller holds come first, and their lease is renewed; a verdict ends it."""
    service, who = service_of(request), caller(request, query.reviewer)
    store, seconds = service.runs.store, service.settings.lease_s

    def work(view: View) -> LeasedRows:
        stored = queue(store, view.snapshot, queue_name)
        return next_page(store, view, stored, who, query.limit, seconds)

    return await service.runs.reply(run, work)


@router.delete(
    "/queues/{queue_name}/next",
    summary="Give leased rows back",
    status_code=204,
    response_description="The caller holds no rows of the queue.",
    responses=problems(*RUN, InvalidRequestError, UnknownQueueError),
)
@least_role("reviewer")
async def give_rows_back(
    request: Request, run: RunName, queue_name: QueueName, query: Annotated[ReviewerQuery, Query()]
) -> Response:
    """Other reviewers get the rows that the caller has leased and not judged."""
    runs, who = service_of(request).runs, caller(request, query.reviewer)

    def work() -> None:
        snapshot = runs.store.snapshot(run)
        give_back(runs.store, snapshot, queue(runs.store, snapshot, queue_name), who.name)

    await runs.do(work)
    return Response(status_code=204)
