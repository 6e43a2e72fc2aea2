"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from service import __version__
from service.api.http.openapi import READINESS, problems
from service.api.http.responses import json_response
from service.api.state import service_of
from service.schema.replies.service import Alive, Ready

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Check that the process is alive", response_model=Alive)
async def healthz() -> Response:
    """200 while the process can reply. Needs no key."""
    alive: Alive = {"alive": True, "version": __version__}
    return json_response(alive)


@router.get(
    "/readyz",
    summary="Check that the service is ready",
    response_model=Ready,
    responses=problems(*READINESS),
)
async def readyz(request: Request) -> Response:
    """200 if the device computes and the store can be written; 503 or 507 if not, and from SIGTERM on. Needs no key."""
    service = service_of(request)
    await service.check_ready()
    ready: Ready = {"ready": True, "device": service.device.name}
    return json_response(ready)


@router.get("/metrics", summary="Get the Prometheus metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """Requests, durations, phases, examples, and the used and free places and bytes, in Prometheus' text format."""
    metrics = service_of(request).metrics
    return Response(await asyncio.to_thread(metrics.exposition), media_type=metrics.content_type)
