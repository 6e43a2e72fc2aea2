"""The composition root: builds the FastAPI app and everything it needs from the settings."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import torch
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.api.admission import Admission
from service.api.background import RunWork
from service.api.configurations import Configurations
from service.api.http import openapi
from service.api.http.buffers import BufferPool
from service.api.http.methods import METHODS
from service.api.http.problems import on_http_exception, on_validation_error
from service.api.lifecycle import drains_before_exit, exits_with_parent
from service.api.metrics import Metrics
from service.api.middleware.auth import KeyAuth
from service.api.middleware.context import RequestContext
from service.api.middleware.direct import DirectRoute
from service.api.middleware.forwarded import ForwardedHeaders
from service.api.middleware.guesses import WrongKeys
from service.api.middleware.head import HeadReplies
from service.api.middleware.http10 import BufferedReplies
from service.api.middleware.origins import OriginCheck
from service.api.middleware.places import RequestPlaces
from service.api.middleware.sessions import Sessions
from service.api.principals import check_role
from service.api.routes import (
    annotators,
    argilla,
    batches,
    configs,
    corrected,
    diagnostics,
    docs,
    examples,
    exports,
    health,
    label_studio,
    loss,
    open_inference,
    page,
    quality,
    queues,
    reviews,
    runs,
    session,
)
from service.api.state import Service
from service.codecs import json_size, json_split
from service.compute.device import Device, resolve_device
from service.compute.registry import LossRegistry
from service.compute.threads import Workers
from service.settings import LEAST_QUERY_BYTES, Settings
from service.storage.config_files import ConfigFiles

RESOURCES = (
    loss,
    configs,
    runs,
    batches,
    examples,
    diagnostics,
    queues,
    reviews,
    quality,
    annotators,
    exports,
    corrected,
    label_studio,
    argilla,
    open_inference,
    health,
    docs,
    page,
    session,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI app.

    Each worker process creates its own app. `settings.processes` is the number of workers: each gets its share of
    places, memory and threads.

    Args:
        settings: Settings of the service; by default, those of the environment.

    Raises:
        DeviceUnavailableError: The machine lacks the device of the settings.
    """
    service = _service(settings or Settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Long-lived objects: exclude them from garbage collection, whose full runs would delay requests.
        gc.collect()
        gc.freeze()
        with drains_before_exit(service), exits_with_parent():
            service.runs.sweep_later()
            yield
        service.close()

    app = FastAPI(
        title="Focal Loss Service",
        version=__version__,
        description="Which examples hurt a model most, and why: focal loss per batch and per example.",
        docs_url=None,
        redoc_url=None,
        # The service redirects without naming a host: see on_http_exception.
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[Depends(check_role)],
        middleware=_middleware(service),
        exception_handlers={HTTPException: on_http_exception, RequestValidationError: on_validation_error},
        # The service has its own metrics, and FastAPI's logs would hold texts of errors, which may hold data.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    for resource in RESOURCES:
        app.include_router(resource.router)
    docs.mount_assets(app)
    page.mount_files(app)
    openapi.document(app, wants_key=bool(service.settings.api_keys))
    return app


def _middleware(service: Service) -> list[Middleware]:
    """Middleware, the outermost first."""
    settings = service.settings
    # With keys a page with a foreign name can do nothing: the browser sends it neither a key nor a cookie.
    hosts = settings.allowed_hosts if settings.allowed_hosts or not settings.api_keys else None
    middleware = [
        Middleware(RequestContext, metrics=service.metrics),
        Middleware(BufferedReplies),
        Middleware(ForwardedHeaders, trusted=settings.forwarded_allow_ips, root_path=settings.root_path),
        Middleware(OriginCheck, hosts=hosts, cors_origins=settings.cors_origins),
    ]
    if settings.cors_origins:
        # Outside of the error replies: pages of these origins may read them too.
        middleware.insert(0, _cors(settings.cors_origins))
    if settings.api_keys:
        middleware.append(Middleware(KeyAuth, sessions=service.sessions, wrong_keys=service.wrong_keys))
    middleware.append(Middleware(RequestPlaces, admission=service.admission, by_key=bool(settings.api_keys)))
    middleware.append(Middleware(HeadReplies))
    return [*middleware, Middleware(DirectRoute, path="/loss", method="POST", endpoint=loss.post_loss)]


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=[*METHODS, "HEAD"],
        # Keys, media types and headers of the Open Inference Protocol. Cookies are not allowed.
        allow_headers=["*"],
        expose_headers=[
            "X-Request-ID",
            "Link",
            "Retry-After",
            "Content-Disposition",
            "ETag",
            "Focal-Loss-Digest",
            "Server-Timing",
        ],
        # Chromium asks before a page of the internet may use a service of the local network.
        allow_private_network=True,
    )


def _service(settings: Settings) -> Service:
    processes = max(1, settings.processes)
    cores = max(1, len(os.sched_getaffinity(0)) // processes)
    device_name = resolve_device(settings.device)
    metrics = Metrics(device_name)
    device = Device(device_name, metrics.count_retry)
    json_split.warm_up()
    json_size.warm_up()
    # The CPU kernel uses as many threads as torch.
    torch.set_num_threads(min(cores, torch.get_num_threads()))
    places = -(-settings.queue_size // processes)
    admission = Admission(places, settings.max_queued_bytes // processes, settings.workers, metrics.set_held)
    query_memory_bytes = max(settings.query_memory_bytes // processes, LEAST_QUERY_BYTES)
    # Apart from the places of bodies: the page works while many bodies are on their way.
    questions = Admission(places, 1, 1, lambda requests, num_bytes: metrics.set_questions(requests))
    run_work = RunWork(settings, questions, memory_bytes=query_memory_bytes, cores=cores)
    config_files = ConfigFiles(run_work.store.files, settings.max_configs, settings.max_configs_bytes)
    registry = LossRegistry(device_name, settings.max_configs, settings.max_configs_bytes, metrics.set_configs)
    return Service(
        settings=settings,
        device=device,
        admission=admission,
        threads=Workers(settings.workers, "loss"),
        streams=ThreadPoolExecutor(places, thread_name_prefix="stream"),
        buffers=BufferPool(settings.max_kept_bytes // processes),
        configurations=Configurations(registry, config_files),
        metrics=metrics,
        runs=run_work,
        sessions=Sessions(settings.named_keys),
        wrong_keys=WrongKeys(),
    )
