"""What a run says of its data set: diagnostics, dynamics over epochs, and what changed between two runs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.openapi import PROBLEMS
from service.api.http.query import Query
from service.api.http.responses import json_response
from service.api.http.run_openapi import COMPARE_QUERY, DIAGNOSTICS_QUERY, DYNAMICS_QUERY
from service.api.state import service_of
from service.diagnostics.compare import compare
from service.diagnostics.dynamics import MAX_BINS, dynamics_page
from service.diagnostics.summary import diagnostics
from service.runs.queries import View
from service.schema.replies.comparison import Comparison
from service.schema.replies.diagnostics import Diagnostics
from service.schema.replies.dynamics import Dynamics

router = APIRouter(prefix="/runs", tags=["runs"], responses=PROBLEMS)


@router.get("/{run}/diagnostics", summary="What an epoch says of the data set", openapi_extra=DIAGNOSTICS_QUERY)
async def get_diagnostics(request: Request, run: str) -> Response:
    """Counts, loss, classes, confusions, histogram, concentration, calibration, label errors, suggested alpha, and
    warnings in plain words. `alpha` and `gamma` ask what if, without posting again; `fields` asks for some of it."""
    query = Query(request, "fields", "epoch", "alpha", "gamma")
    fields = query.names("fields")

    def work(view: View) -> Diagnostics:
        return diagnostics(view, query.weighting(view), query.epoch(view), fields)

    return json_response(await service_of(request).runs.ask(run, work))


@router.get("/{run}/dynamics", summary="How the examples were learned", openapi_extra=DYNAMICS_QUERY)
async def get_dynamics(request: Request, run: str) -> Response:
    """Over the epochs, or the first of them: confidence, variability, correctness, area under the margin, forgetting,
    first learned, region of the data map; a page of examples and the totals of all. `bins` asks for the data map as a
    grid."""
    query = Query(request, "first", "sort", "limit", "offset", "region", "bins", "alpha", "gamma")
    limit, offset = query.integer("limit", most=100_000), query.integer("offset")

    def work(view: View) -> Dynamics:
        return dynamics_page(
            view,
            query.weighting(view),
            first=query.integer("first", least=1),
            sort=query.text("sort") or "area_under_margin",
            region=query.text("region"),
            limit=100 if limit is None else limit,
            offset=offset or 0,
            bins=query.integer("bins", least=1, most=MAX_BINS),
        )

    return json_response(await service_of(request).runs.ask(run, work))


@router.get("/{run}/compare/{other}", summary="What changed from one run to another", openapi_extra=COMPARE_QUERY)
async def get_compare(request: Request, run: str, other: str) -> Response:
    """By example: newly hard, resolved, moves of rank, overlap of the hardest, class by class; both under the loss of
    the first run, or of `alpha` and `gamma`."""
    service = service_of(request)
    query = Query(request, "top", "epoch", "other_epoch", "alpha", "gamma")

    def work(view: View) -> Comparison:
        after = View(view.cursor, service.runs.store.snapshot(other))
        epochs = query.epoch(view), query.epoch(after, "other_epoch")
        return compare(view, after, query.weighting(view), epochs, query.integer("top", least=1))

    return json_response(await service.runs.ask(run, work))
