"""`/runs/{run}/queues` and `/runs/{run}/reviews`: what to look at next, and what was said of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.body import read_json
from service.api.openapi import PROBLEMS
from service.api.query import Query
from service.api.run_openapi import QUEUE_BODY, REVIEWS_BODY
from service.api.runs import json_response
from service.api.state import Service, service_of
from service.mining.queues import create_queue, preview, queue, queues
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews, expected_yield, history, progress, verdicts
from service.runs.examples import add_attributes
from service.runs.queries import View

ROWS_AT_ONCE = 100

router = APIRouter(prefix="/runs/{run}", tags=["runs"], responses=PROBLEMS)


@router.post("/queues", summary="Make a queue", status_code=201, openapi_extra=QUEUE_BODY)
async def post_queue(request: Request, run: str) -> Response:
    """The rows to look at next, chosen now and kept: 201. With a name the same request again gives what is kept (200),
    another one 409. `alpha` and `gamma` in the query rank by another loss; `preview=true` answers what would be made,
    and keeps nothing: 200."""
    service, query = service_of(request), Query(request, "preview", "alpha", "gamma")
    wanted = QueueRequest.parse(await read_json(request))
    if query.flag("preview"):

        def shown(view: View) -> dict[str, Any]:
            last = verdicts(history(service.runs.store, view.snapshot))
            made = preview(view, wanted, query.weighting(view), list(last))
            return _shown(service, view, made, 0, ROWS_AT_ONCE)

        return json_response(await service.runs.ask(run, shown))

    def work(view: View) -> tuple[dict[str, Any], bool]:
        last = verdicts(history(service.runs.store, view.snapshot))
        return create_queue(service.runs.store, view, wanted, query.weighting(view), list(last))

    made, new = await service.runs.ask(run, work)
    # A question of its own: asked again, it makes no second queue.
    answer = await service.runs.ask(run, lambda view: _shown(service, view, made, 0, ROWS_AT_ONCE))
    return json_response(answer, 201 if new else 200)


@router.get("/queues", summary="All queues of a run")
async def list_queues(request: Request, run: str) -> Response:
    """By name, without their rows."""
    service = service_of(request)

    def work(view: View) -> list[dict[str, Any]]:
        last = verdicts(history(service.runs.store, view.snapshot))
        return [_summary(one, last) for one in queues(service.runs.store, view.snapshot)]

    return json_response({"queues": await service.runs.ask(run, work)})


@router.get("/queues/{queue_name}", summary="The rows of a queue")
async def get_queue(request: Request, run: str, queue_name: str) -> Response:
    """By rank, `limit` of them from `offset` on, each with its scores, the reason why it is there, and its verdict."""
    service, query = service_of(request), Query(request, "limit", "offset")
    limit, offset = query.integer("limit", least=1, most=100_000) or ROWS_AT_ONCE, query.integer("offset") or 0

    def work(view: View) -> dict[str, Any]:
        return _shown(service, view, queue(service.runs.store, view.snapshot, queue_name), offset, limit)

    return json_response(await service.runs.ask(run, work))


@router.post("/reviews", summary="Say what reviewers found", status_code=201, openapi_extra=REVIEWS_BODY)
async def post_reviews(request: Request, run: str) -> Response:
    """A list of verdicts, kept as a whole or not at all; the last word on an example counts, null takes it back."""
    service, value = service_of(request), await read_json(request)

    def work(view: View) -> dict[str, Any]:
        kept = add_reviews(service.runs.store, view, value)
        return {"added": kept, **_progress(service, view)}

    return json_response(await service.runs.ask(run, work), 201)


@router.get("/reviews", summary="All reviews, and the precision so far")
async def get_reviews(request: Request, run: str) -> Response:
    """Every review in the order it came; how often each strategy was right, and the error rate of the random slice."""
    service = service_of(request)

    def work(view: View) -> dict[str, Any]:
        return {"reviews": history(service.runs.store, view.snapshot), **_progress(service, view)}

    return json_response(await service.runs.ask(run, work))


def _progress(service: Service, view: View) -> dict[str, Any]:
    store = service.runs.store
    return progress(store, view.snapshot, verdicts(history(store, view.snapshot)))


def _summary(one: dict[str, Any], last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rows = one["rows"]
    reviewed = sum(row["id"] in last for row in rows)
    return {name: value for name, value in one.items() if name != "rows"} | {
        "num_rows": len(rows),
        "num_reviewed": reviewed,
    }


def _shown(service: Service, view: View, one: dict[str, Any], offset: int, limit: int) -> dict[str, Any]:
    store = service.runs.store
    last = verdicts(history(store, view.snapshot))
    rows = [dict(row) for row in one["rows"][offset : offset + limit]]
    add_attributes(view, rows)
    for row in rows:
        said = last.get(row["id"])
        row["verdict"], row["verdict_label"] = (said["verdict"], said["label"]) if said else (None, None)
    precision = progress(store, view.snapshot, last)["precision"]
    return _summary(one, last) | {"expected_yield": expected_yield(one["rows"], precision), "rows": rows}
