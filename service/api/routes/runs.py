"""`/runs`: make, list, show and delete runs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.body import read_json
from service.api.http.openapi import PROBLEMS
from service.api.http.responses import json_response
from service.api.http.run_openapi import RUN_BODY
from service.api.state import Service, service_of
from service.errors import UnknownRunError
from service.mining.progress import progress
from service.runs.manifest import RunDescription
from service.runs.names import check_name
from service.runs.snapshot import Snapshot

router = APIRouter(prefix="/runs", tags=["runs"], responses=PROBLEMS)


@router.put("/{run}", summary="Make a run", openapi_extra=RUN_BODY)
async def put_run(request: Request, run: str) -> Response:
    """201 where it is new, 200 where it is there with the same description, 409 with another one."""
    service = service_of(request)
    check_name("run", run)
    description = RunDescription.parse(await read_json(request))
    snapshot, new = await service.runs.do(lambda: service.runs.store.create(run, description))
    return json_response(described(snapshot), 201 if new else 200)


@router.get("", summary="All runs")
async def list_runs(request: Request) -> Response:
    """By name, each with its counts and what its reviews say so far."""
    service = service_of(request)

    def work() -> list[dict[str, Any]]:
        found = []
        for name in service.runs.store.names():
            # One may be deleted in this moment.
            with suppress(UnknownRunError):
                snapshot = service.runs.store.snapshot(name)
                found.append(described(snapshot) | _reviewed(service, snapshot))
        return found

    return json_response({"runs": await service.runs.do(work)})


@router.get("/{run}", summary="One run")
async def get_run(request: Request, run: str) -> Response:
    """Its description, epochs, counts, and what its reviews say so far."""
    service = service_of(request)

    def work() -> dict[str, Any]:
        snapshot = service.runs.store.snapshot(run)
        return described(snapshot) | _reviewed(service, snapshot)

    return json_response(await service.runs.do(work))


@router.delete("/{run}", summary="Delete a run with all that belongs to it", status_code=204)
async def delete_run(request: Request, run: str) -> Response:
    """404 `unknown_run` where there is none. It cannot be brought back."""
    service = service_of(request)
    await service.runs.do(lambda: service.runs.store.delete(run))
    return Response(status_code=204)


def described(snapshot: Snapshot) -> dict[str, Any]:
    """A run as the API tells it."""
    description = snapshot.description
    return {
        "run": snapshot.name,
        "created_at": snapshot.manifest.created_at.isoformat(),
        "config": description.config.model_dump(mode="json"),
        "config_id": description.config.config_id,
        "class_names": description.class_names,
        "num_classes": snapshot.num_classes,
        "display": description.display,
        "store_logits": description.store_logits,
        "epochs": [_epoch(snapshot, epoch) for epoch in snapshot.epochs],
        "num_examples": snapshot.rows(snapshot.epochs[-1]) if snapshot.epochs else 0,
        "num_rows": snapshot.rows(),
    }


def _epoch(snapshot: Snapshot, epoch: int) -> dict[str, Any]:
    footers = [one.footer for one in snapshot.data if one.epoch == epoch]
    return {
        "epoch": epoch,
        "num_batches": sum(len(footer.batches) for footer in footers),
        "num_examples": sum(footer.rows for footer in footers),
        "num_ignored": sum(footer.num_ignored for footer in footers),
        "num_excluded": sum(footer.num_excluded for footer in footers),
    }


def _reviewed(service: Service, snapshot: Snapshot) -> dict[str, Any]:
    store = service.runs.store
    return {"reviews": progress(store, snapshot, store.reviews(snapshot).verdicts)}
