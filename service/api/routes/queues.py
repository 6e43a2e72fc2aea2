"""`/runs/{run}/queues` and `/runs/{run}/reviews`: what to look at next, and what was said of it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.body import read_json
from service.api.http.openapi import PROBLEMS
from service.api.http.query import ATTRIBUTE, MAX_LIMIT, Query
from service.api.http.responses import json_response
from service.api.http.run_openapi import QUEUE_BODY, QUEUE_QUERY, REVIEWS_BODY
from service.api.state import Service, service_of
from service.mining.listing import EQUAL, Listing, QueueFilter, listing, listings, parse_order, parse_verdict
from service.mining.progress import progress
from service.mining.queue_pages import queue_page, queue_reply
from service.mining.queues import create_queue, preview
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.runs.queries import View
from service.schema.replies.queues import Queue, QueuePage, StoredQueue
from service.schema.replies.reviews import AddedReviews, Progress, Reviews

ROWS_AT_ONCE = 100
QUEUE_PARAMETERS = tuple(one["name"] for one in QUEUE_QUERY["parameters"])

router = APIRouter(prefix="/runs/{run}", tags=["runs"], responses=PROBLEMS)


@router.post("/queues", summary="Make a queue", status_code=201, openapi_extra=QUEUE_BODY)
async def post_queue(request: Request, run: str) -> Response:
    """The rows to look at next, chosen now and kept: 201. With a name the same request again gives what is kept (200),
    another one 409. `alpha` and `gamma` in the query rank by another loss; `preview=true` answers what would be made,
    and keeps nothing: 200."""
    service, query = service_of(request), Query(request, "preview", "alpha", "gamma")
    wanted = QueueRequest.parse(await read_json(request))

    def work(view: View) -> tuple[StoredQueue, bool]:
        reviewed = list(service.runs.store.reviews(view.snapshot).verdicts)
        if query.flag("preview"):
            return preview(view, wanted, query.weighting(view), reviewed), False
        return create_queue(service.runs.store, view, wanted, query.weighting(view), reviewed)

    queue, new = await service.runs.ask(run, work)
    # A second query: `ask` may repeat its work, and must not create a second queue.
    reply = await service.runs.ask(
        run, lambda view: queue_page(service.runs.store, view, Listing.of(queue), QueueFilter())
    )
    return json_response(reply, 201 if new else 200)


@router.get("/queues", summary="All queues of a run")
async def list_queues(request: Request, run: str) -> Response:
    """By name, without their rows."""
    service = service_of(request)

    def work(view: View) -> list[Queue]:
        verdicts = service.runs.store.reviews(view.snapshot).verdicts
        return [queue_reply(queue, verdicts) for queue in listings(service.runs.store, view.snapshot)]

    return json_response({"queues": await service.runs.ask(run, work)})


@router.get("/queues/{queue_name}", summary="The rows of a queue", openapi_extra=QUEUE_QUERY)
async def get_queue(request: Request, run: str, queue_name: str) -> Response:
    """Each with its scores, the reason why it is there, attributes and verdict; in an order, all or those that a filter
    leaves, `limit` of them from `offset` on or around a rank. `num_matching` counts all that it leaves."""
    service, wanted = service_of(request), _wanted(Query(request, *QUEUE_PARAMETERS, ATTRIBUTE))

    def work(view: View) -> QueuePage:
        return queue_page(service.runs.store, view, listing(service.runs.store, view.snapshot, queue_name), wanted)

    return json_response(await service.runs.ask(run, work))


def _wanted(query: Query) -> QueueFilter:
    equal = {name: query.integer(name) for name in EQUAL}
    sort, verdict, fields = (query.text(name) for name in ("sort", "verdict", "fields"))
    return QueueFilter(
        equal={name: value for name, value in equal.items() if value is not None},
        verdict=parse_verdict(verdict) if verdict else None,
        attributes=query.below(ATTRIBUTE),
        text=query.text("text"),
        ranks=query.integers("ranks"),
        order=parse_order(sort) if sort else (),
        limit=query.integer("limit", least=1, most=MAX_LIMIT) or ROWS_AT_ONCE,
        offset=query.integer("offset") or 0,
        around=query.integer("around"),
        fields=fields.split(",") if fields else None,
        facets=query.flag("facets") or False,
    )


@router.post("/reviews", summary="Say what reviewers found", status_code=201, openapi_extra=REVIEWS_BODY)
async def post_reviews(request: Request, run: str) -> Response:
    """A list of verdicts, kept as a whole or not at all; the last word on an example counts, null takes it back."""
    service, value = service_of(request), await read_json(request)

    def work(view: View) -> AddedReviews:
        added = add_reviews(service.runs.store, view, value)
        folder = service.runs.store.review_folder(view.snapshot)
        service.runs.merge_later(folder, len(folder.live()))
        return {"added": added, **_progress(service, view)}

    return json_response(await service.runs.ask(run, work), 201)


@router.get("/reviews", summary="All reviews, and the precision so far")
async def get_reviews(request: Request, run: str) -> Response:
    """Every review in the order it came; how often each strategy was right, and the error rate of the random slice."""
    service = service_of(request)

    def work(view: View) -> Reviews:
        return {"reviews": service.runs.store.reviews(view.snapshot).reviews, **_progress(service, view)}

    return json_response(await service.runs.ask(run, work))


def _progress(service: Service, view: View) -> Progress:
    store = service.runs.store
    return progress(store, view.snapshot, store.reviews(view.snapshot).verdicts)
