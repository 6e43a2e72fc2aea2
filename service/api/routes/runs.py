"""`/runs` and `/runs/{run}`."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.openapi import BODY, RUN, STORE, json_body, problems
from service.api.http.path_types import RunName
from service.api.http.responses import json_response
from service.api.receive import read_json
from service.api.state import service_of
from service.errors import (
    InvalidConfigError,
    InvalidNameError,
    RunConflictError,
    RunDamagedError,
    StorageFullError,
    UnknownRunError,
)
from service.mining.progress import progress
from service.runs.damage import log_damage
from service.runs.manifest import RunDescription
from service.runs.names import check_name
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.replies.config import config_reply
from service.schema.replies.runs import CreatedRun, DamagedRun, Epoch, Run, RunList

EXAMPLES = {
    "plain": {"config": {"gamma": 2.0}, "class_names": ["cat", "dog", "bird"]},
    "without logits": {"config": {"alpha": [1.0, 2.0, 4.0]}, "store_logits": False},
}

router = APIRouter(prefix="/runs", tags=["runs"])


@router.put(
    "/{run}",
    summary="Create a run",
    status_code=201,
    response_model=CreatedRun,
    response_description="The run is new.",
    responses={
        200: {"model": CreatedRun, "description": "The run exists with the same description."},
        **problems(
            *BODY, *STORE, InvalidNameError, InvalidConfigError, RunConflictError, RunDamagedError, StorageFullError
        ),
    },
    openapi_extra=json_body(RunDescription, EXAMPLES),
)
async def put_run(request: Request, run: RunName) -> Response:
    """The description of a run never changes: another one for the same name is a conflict."""
    service = service_of(request)
    check_name("run", run)
    description = await read_json(request, RunDescription.parse)

    def work() -> Response:
        snapshot, new = service.runs.store.create(run, description)
        return json_response(_created_run(snapshot), 201 if new else 200)

    return await service.runs.do(work)


@router.get("", summary="List all runs", response_model=RunList, responses=problems(*STORE))
async def list_runs(request: Request) -> Response:
    """Runs by name, each with its epochs, counts, and the progress of its reviews. A run with a damaged file has only
    `run` and `error`."""
    store = service_of(request).runs.store

    def work() -> RunList:
        runs: list[Run | DamagedRun] = []
        for name in store.names():
            # Another request may delete the run now.
            with suppress(UnknownRunError):
                runs.append(_run_or_error(store, name))
        return {"runs": runs}

    return await service_of(request).runs.do(lambda: json_response(work()))


@router.get("/{run}", summary="Get a run", response_model=Run, responses=problems(*RUN))
async def get_run(request: Request, run: RunName) -> Response:
    """Description, epochs, counts, and the progress of the reviews."""
    store = service_of(request).runs.store
    return await service_of(request).runs.do(lambda: json_response(_run(store, run)))


@router.delete(
    "/{run}",
    summary="Delete a run",
    status_code=204,
    response_description="The run is deleted.",
    responses=problems(UnknownRunError, InvalidNameError, *STORE),
)
async def delete_run(request: Request, run: RunName) -> Response:
    """The run, its batches, queues and reviews cannot be restored. A damaged run can be deleted too."""
    store = service_of(request).runs.store
    await service_of(request).runs.do(lambda: store.delete(run))
    return Response(status_code=204)


def _run_or_error(store: RunStore, name: str) -> Run | DamagedRun:
    try:
        return _run(store, name)
    except RunDamagedError as err:
        log_damage(err)
        return {"run": name, "error": f"{err.file} {err.fault}"}


def _run(store: RunStore, name: str) -> Run:
    snapshot = store.snapshot(name)
    return {**_created_run(snapshot), "reviews": progress(store, snapshot, store.reviews(snapshot))}


def _created_run(snapshot: Snapshot) -> CreatedRun:
    description = snapshot.description
    return {
        "run": snapshot.name,
        "created_at": snapshot.manifest.created_at.isoformat(),
        "config": config_reply(description.config),
        "config_id": description.config.config_id,
        "class_names": None if description.class_names is None else list(description.class_names),
        "num_classes": snapshot.num_classes,
        "display": description.display,
        "store_logits": description.store_logits,
        "task": description.task,
        "within": description.within_json,
        "epochs": [_epoch(snapshot, epoch) for epoch in snapshot.epochs],
        "num_examples": snapshot.num_rows(snapshot.epochs[-1]) if snapshot.epochs else 0,
        "num_rows": snapshot.num_rows(),
    }


def _epoch(snapshot: Snapshot, epoch: int) -> Epoch:
    counts = snapshot.counts(epoch)
    return {
        "epoch": epoch,
        "num_batches": sum(len(file.batches) for file in snapshot.data_of(epoch)),
        "num_examples": counts.rows,
        "num_ignored": counts.num_ignored,
        "num_excluded": counts.num_excluded,
    }
