"""`/runs/{run}/diagnostics`, `/dynamics` and `/compare/{other}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import ROWS, problems
from service.api.http.path_types import OtherRunName, RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.queries import CompareQuery, DiagnosticsQuery, DynamicsQuery
from service.api.state import service_of
from service.diagnostics.compare import compare
from service.diagnostics.dynamics import dynamics_page
from service.diagnostics.summary import diagnostics
from service.errors import InvalidConfigError, UnknownEpochError
from service.mining.verdict_warnings import verdict_warnings
from service.queries.view import View
from service.schema.replies.comparison import Comparison
from service.schema.replies.diagnostics import Diagnostics
from service.schema.replies.dynamics import Dynamics

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


@router.get(
    "/{run}/diagnostics",
    summary="Diagnose the data set by an epoch",
    response_model=Diagnostics,
    responses=problems(*ROWS, UnknownEpochError, InvalidConfigError),
)
async def get_diagnostics(request: Request, run: RunName, query: Annotated[DiagnosticsQuery, Query()]) -> Response:
    """Counts, loss, classes, confusions, histogram, concentration, calibration, label errors, suggested alpha, and
    warnings in plain words; of a structured run `elements` in place of what is about one class of an example. `alpha`
    and `gamma` show the effect of another loss without sending the batches again."""
    store = service_of(request).runs.store

    def work(view: View) -> Diagnostics:
        weighting = view.weighting(query.weights, query.gamma)
        reply = diagnostics(view, weighting, view.snapshot.epoch(query.epoch), query.field_names)
        if "warnings" in reply:
            reply["warnings"] += verdict_warnings(store, view.snapshot, store.reviews(view.snapshot))
        return reply

    return await service_of(request).runs.reply(run, work)


@router.get(
    "/{run}/dynamics",
    summary="Show how the examples were learned",
    response_model=Dynamics,
    responses=problems(*ROWS, InvalidConfigError),
)
async def get_dynamics(request: Request, run: RunName, query: Annotated[DynamicsQuery, Query()]) -> Response:
    """Confidence, variability, correctness, area under the margin, forgetting, first learned and region of the data
    map of each example over the epochs: a page of examples, and the totals of all."""

    def work(view: View) -> Dynamics:
        return dynamics_page(
            view,
            view.weighting(query.weights, query.gamma),
            first=query.first,
            sort=query.sort,
            region=query.region,
            limit=query.limit,
            offset=query.offset,
            bins=query.bins,
        )

    return await service_of(request).runs.reply(run, work)


@router.get(
    "/{run}/compare/{other}",
    summary="Compare two runs",
    response_model=Comparison,
    responses=problems(*ROWS, UnknownEpochError, InvalidConfigError),
)
async def get_compare(
    request: Request, run: RunName, other: OtherRunName, query: Annotated[CompareQuery, Query()]
) -> Response:
    """Newly hard and resolved examples, changes of rank, overlap of the hardest, and the classes; both runs under the
    loss of the first one, or of `alpha` and `gamma`."""
    service = service_of(request)

    def work(view: View) -> Comparison:
        with service.runs.store.reading(other) as snapshot:
            after = view.of(snapshot)
            epochs = view.snapshot.epoch(query.epoch), after.snapshot.epoch(query.other_epoch)
            return compare(view, after, view.weighting(query.weights, query.gamma), epochs, query.top)

    return await service.runs.reply(run, work)
