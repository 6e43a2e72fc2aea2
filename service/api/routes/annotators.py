"""`/runs/{run}/annotations` and `/runs/{run}/consensus`: the labels of several annotators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.annotation_docs import ANNOTATIONS_BODY
from service.api.http.openapi import JSON, RECEIVED, ROWS, RUN, problems
from service.api.http.path_types import RunName
from service.api.http.query_types import refuse_repeated_parameters
from service.api.http.responses import json_response
from service.api.principals import principal_of
from service.api.queries import ConsensusQuery
from service.api.receive import any_json, read_json, read_on_thread
from service.api.state import service_of
from service.codecs.base import DecodeOptions
from service.codecs.negotiation import table_reader
from service.diagnostics.annotators.consensus_page import consensus_page
from service.diagnostics.annotators.run_consensus import run_consensus
from service.errors import (
    InvalidIdsError,
    InvalidTargetError,
    RunFullError,
    TooManyColumnsError,
    TooManyExamplesError,
    TooManyValuesError,
    UnknownEpochError,
    UnknownExampleError,
)
from service.formats.labels import ClassNames
from service.mining.annotation_rows import AnnotationRows, read_table, rows_of_json, rows_of_table
from service.mining.annotations import add_annotations
from service.mining.visibility import seen_history
from service.queries.view import View
from service.schema.replies.consensus import AddedAnnotations, Consensus

router = APIRouter(prefix="/runs/{run}", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])
# Makes rows with the class names of the run, if it has any.
MakeRows = Callable[[ClassNames | None], AnnotationRows]


@router.put(
    "/annotations",
    summary="Store labels of several annotators",
    status_code=201,
    response_model=AddedAnnotations,
    response_description="Annotations are stored.",
    responses={
        200: {"model": AddedAnnotations, "description": "All of them were known already; nothing is stored."},
        **problems(
            *RECEIVED,
            *ROWS,
            TooManyColumnsError,
            TooManyExamplesError,
            TooManyValuesError,
            InvalidIdsError,
            InvalidTargetError,
            UnknownExampleError,
            RunFullError,
        ),
    },
    openapi_extra=ANNOTATIONS_BODY,
)
async def put_annotations(request: Request, run: RunName) -> Response:
    """Store the labels that annotators gave to examples of the run, all or none: `id`, `annotator` and `label`, by
    number or class name, in JSON or any format of tables. The same again changes nothing; another label of the same
    annotator for an example replaces it."""
    service, rows = service_of(request), await _read(request)
    store = service.runs.store

    def work(view: View) -> AddedAnnotations:
        names = view.snapshot.description.class_names
        effect = add_annotations(store, view, rows(None if names is None else ClassNames(names)))
        service.runs.merge_later(view.snapshot.annotations, len(view.snapshot.annotations.live()))
        return effect

    effect = await service.runs.ask(run, work)
    return json_response(effect, 201 if effect["added"] or effect["changed"] else 200)


async def _read(request: Request) -> MakeRows:
    """The body of a request, whose labels are to be converted."""
    content_type = request.headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() == JSON:
        value = await read_json(request, any_json)
        return lambda names: rows_of_json(value, names)
    reader, settings = table_reader(content_type, JSON), service_of(request).settings
    options = DecodeOptions(max_bytes=settings.max_body_bytes, max_rows=settings.max_examples)
    table = await read_on_thread(request, lambda body: read_table(reader, body, options))
    return lambda names: rows_of_table(table, names)


@router.delete(
    "/annotations",
    summary="Delete the labels of all annotators",
    status_code=204,
    response_description="The run has no annotations.",
    responses=problems(*RUN),
)
async def delete_annotations(request: Request, run: RunName) -> Response:
    """All annotations of the run, in one step. Its reviews stay."""
    runs = service_of(request).runs

    def work() -> None:
        snapshot = runs.store.snapshot(run)
        runs.store.delete_annotations(snapshot)
        runs.merge_later(snapshot.annotations)

    await runs.do(work)
    return Response(status_code=204)


@router.get(
    "/consensus",
    summary="Estimate the consensus of several annotators",
    response_model=Consensus,
    responses=problems(*ROWS, UnknownEpochError),
)
async def get_consensus(request: Request, run: RunName, query: Annotated[ConsensusQuery, Query()]) -> Response:
    """The likeliest class of each example by its annotators and the model of an epoch (CROWDLAB), and the probability
    that it is right; the trust in the model and in each annotator; and the value of one more label for each example
    (ActiveLab). The numbers equal those of cleanlab. Of the reviewers those verdicts count that the caller may see."""
    store, who = service_of(request).runs.store, principal_of(request)

    def work(view: View) -> Consensus:
        epoch = view.snapshot.epoch(query.epoch)
        verdicts = seen_history(store, view.snapshot, who).verdicts_of(epoch) if query.reviewers else None
        consensus = run_consensus(view, epoch, verdicts)
        return consensus_page(
            view,
            epoch,
            consensus,
            sort=query.sort,
            annotated=query.annotated,
            differing=query.differing,
            limit=query.limit,
            offset=query.offset,
        )

    return await service_of(request).runs.reply(run, work)
