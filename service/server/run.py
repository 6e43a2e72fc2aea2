"""`focal-loss serve`: the app under uvicorn, in one process or under uvicorn's own supervisor."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.errors import LossServiceError
from service.logs import configure_logs
from service.runs.files import open_files
from service.server.protocol import BodyConfig, BodyProtocol
from service.settings import Settings

MOST_PROCESSES = 4
# A worker that starts on a busy machine, or parses a body of 256 MiB, does not answer its supervisor meanwhile.
WORKER_ANSWERS_WITHIN_S = 30
# Set before prometheus_client is imported by the workers.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

log = structlog.get_logger("service.server")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when all requests in flight are answered.

    Raises:
        DeviceUnavailableError: The settings name a device that is not there.
        StorageUnavailableError: `data_dir` is a URL that fsspec does not know.
        SystemExit: The address cannot be bound, or a worker cannot start.
    """
    configure_logs(settings.log_level, settings.log_format)
    # A supervisor takes long to notice that a worker cannot start.
    open_files(settings.data_dir)
    processes = number_of_processes(settings)
    config = _config(settings.model_copy(update={"processes": processes}))
    if processes > 1:
        _serve_with_workers(config)
        return
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def number_of_processes(settings: Settings) -> int:
    """`settings.processes`; 0 is one process on CUDA, where each takes memory of the device, else one for each core.

    Raises:
        DeviceUnavailableError: The settings name a device that is not there.
    """
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _has_cuda_driver())
    if not on_cpu:
        from service.compute.device import resolve_device  # torch takes 250 MB, which the supervisor need not have

        on_cpu = resolve_device(settings.device) == "cpu"
    if settings.processes:
        return settings.processes
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if on_cpu else 1


def make_app(settings: Settings) -> ASGIApp:
    """The app of one worker process; ends the process where the app cannot be made.

    Raises:
        SystemExit: With the status that tells uvicorn's supervisor not to try again.
    """
    configure_logs(settings.log_level, settings.log_format)
    from service.api.app import create_app  # not in the supervisor

    try:
        app = create_app(settings)
    except LossServiceError as err:
        log.error(err.detail)  # noqa: TRY400 - the message says it all
        sys.exit(STARTUP_FAILURE)
    log.info("starting", device=app.state.service.device.name, keys=len(settings.api_keys))
    return app


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which closes its own listening socket before it waits for the workers to end.

    Otherwise connections would be accepted by the kernel, and answered by nobody, after the workers have closed theirs.
    """

    def join_all(self) -> None:
        for listener in self.sockets:
            listener.close()
        super().join_all()


def _config(settings: Settings) -> BodyConfig:
    return BodyConfig(
        partial(make_app, settings),
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.processes,
        http=BodyProtocol if settings.direct_body else "auto",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_timeout_s,
        timeout_worker_healthcheck=WORKER_ANSWERS_WITHIN_S,
        h11_max_incomplete_event_size=settings.max_head_bytes,
        max_head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
    )


def _serve_with_workers(config: BodyConfig) -> None:
    with _metrics_folder():
        listener = config.bind_socket()
        supervisor = Supervisor(config, [listener])
        supervisor.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """A folder in which prometheus_client sums the metrics of all workers, unless the environment names one."""
    if METRICS_FOLDER in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="focal-loss-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        yield


def _has_cuda_driver() -> bool:
    with suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        return True
    return False
