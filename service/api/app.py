"""The composition root: settings to a FastAPI app with everything wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from service import __version__
from service.api.background import RunWork
from service.api.http import openapi
from service.api.http.buffers import Buffers
from service.api.http.problems import on_http_exception
from service.api.metrics import Metrics
from service.api.middleware.auth import BearerAuth
from service.api.middleware.context import RequestContext
from service.api.middleware.direct import StraightTo
from service.api.middleware.sessions import Sessions
from service.api.routes import configs, diagnostics, docs, examples, exports, health, loss, page, queues
from service.api.routes import open_inference as inference_protocol
from service.api.routes import runs as run_routes
from service.api.state import Service
from service.codecs import json_numbers
from service.compute.device import Engine, resolve_device
from service.compute.registry import LossRegistry
from service.compute.siblings import Siblings
from service.settings import LEAST_QUERY_BYTES, Settings


def create_app(settings: Settings | None = None, siblings: Siblings | None = None) -> FastAPI:
    """The service as an ASGI app; two apps share nothing but what their siblings do.

    Args:
        settings: Default: from the environment.
        siblings: This process and the others of the service; default: there are none.

    Raises:
        DeviceUnavailableError: The settings name a device that is not there.
    """
    settings, siblings = settings or Settings(), siblings or Siblings()
    device = resolve_device(settings.device)
    json_numbers.warm_up()
    engine = Engine(
        device,
        workers=settings.workers,
        queue_size=settings.queue_size,
        max_queued_bytes=settings.max_queued_bytes,
        siblings=siblings,
    )
    registry = LossRegistry(device, settings.max_configs)
    runs = RunWork(settings, engine, max(settings.query_memory_bytes // siblings.processes, LEAST_QUERY_BYTES))
    sessions = Sessions(settings.api_keys)
    buffers = Buffers(settings.max_kept_bytes // siblings.processes)
    metrics = Metrics(engine, registry)
    service = Service(settings, engine, buffers, registry, metrics, runs, sessions, siblings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await siblings.open(service.answer)
        yield
        siblings.close()
        engine.close()
        runs.close()

    middleware = [Middleware(RequestContext, metrics=service.metrics)]
    if settings.api_keys:
        middleware.append(Middleware(BearerAuth, sessions=sessions))
    (post_loss,) = (route for route in loss.router.routes if isinstance(route, Route))
    middleware.append(Middleware(StraightTo, route=post_loss))
    app = FastAPI(
        title="Focal Loss Service",
        version=__version__,
        description="Which examples hurt a model most, and why: focal loss per batch and per example.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={HTTPException: on_http_exception},
        # We have metrics of our own; and its logs would have the texts of errors, in which there may be data.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    runs_parts = (run_routes, examples, diagnostics, queues, exports)
    # Included, a router is matched twice; this one is asked for most.
    app.router.routes.extend(loss.router.routes)
    for part in (configs, *runs_parts, inference_protocol, health, docs, page):
        app.include_router(part.router)
    docs.mount_assets(app)
    openapi.document(app, wants_key=bool(settings.api_keys))
    return app
