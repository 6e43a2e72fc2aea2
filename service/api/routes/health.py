"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service import __version__
from service.api.state import service_of

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
    await service.check_ready()
    return JSONResponse({"ready": True, "device": service.device.name})


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def get_metrics(request: Request) -> Response:
    """Requests, durations, phases, examples, bounds and what is held, in Prometheus' text format."""
    metrics = service_of(request).metrics
    return Response(await asyncio.to_thread(metrics.exposition), media_type=metrics.content_type)
