"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service import __version__
from service.api.state import Service, service_of
from service.errors import DeviceUnavailableError, DrainingError

DEVICE_ANSWERS_WITHIN_S = 5.0

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Alive")
async def healthz() -> JSONResponse:
    """200 as long as the process can answer; needs no key."""
    return JSONResponse({"alive": True, "version": __version__})


@router.get("/readyz", summary="Ready for work")
async def readyz(request: Request) -> JSONResponse:
    """200 where the device computes and the store can be written; 503 or 507 where not, and from SIGTERM on.

    Needs no key.
    """
    service = service_of(request)
    await check_ready(service)
    return JSONResponse({"ready": True, "device": service.engine.device})


async def check_ready(service: Service) -> None:
    """Raise where the service should get no work.

    Raises:
        DrainingError: It is ending.
        DeviceUnavailableError: Its device does not compute, or not in time.
        StorageUnavailableError, StorageFullError: Nothing can be written where runs are kept.
    """
    if service.draining:
        raise DrainingError("the service is ending and takes no new work", headers={"Retry-After": "5"})
    try:
        # Not on the engine's threads: a full queue is not a device that does not answer.
        await asyncio.wait_for(asyncio.to_thread(service.engine.check), DEVICE_ANSWERS_WITHIN_S)
    except TimeoutError as err:
        raise DeviceUnavailableError(
            f"{service.engine.device} did not answer within {DEVICE_ANSWERS_WITHIN_S:g} s"
        ) from err
    await asyncio.to_thread(service.runs.store.check)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Requests, durations, phases, examples, bounds and what is held, in Prometheus' text format."""
    service = service_of(request)
    return Response(await service.exposition(), media_type=service.metrics.content_type)
