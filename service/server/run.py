"""`focal-loss serve`: the app under uvicorn, in one process or under uvicorn's own supervisor."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.errors import LossServiceError
from service.logs import configure_logs
from service.server.protocol import BodyConfig, BodyProtocol
from service.settings import METRICS_FOLDER_VARIABLE, Settings
from service.storage.files import open_files

MAX_PROCESSES = 4
MAX_OPEN_FILES = 8192
# A worker does not answer its supervisor while it starts on a busy machine or parses a body of 256 MiB.
WORKER_ANSWERS_WITHIN_S = 30
SECRETS = "/run/secrets"

log = structlog.get_logger("service.server")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; return when all open requests are answered.

    Raises:
        DeviceUnavailableError: The machine lacks the device of the settings.
        StorageUnavailableError: fsspec does not support the URL in `data_dir`.
        SystemExit: The address cannot be bound, or a worker cannot start.
    """
    configure_logs(settings.log_level, settings.log_format)
    # Check the folder here: the supervisor notices late that a worker cannot start.
    open_files(settings.data_dir)
    _check_key_file(settings.api_keys_file)
    processes = number_of_processes(settings)
    _raise_open_files()
    config = _config(settings.model_copy(update={"processes": processes}))
    if processes > 1:
        _serve_with_workers(config)
        return
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _check_key_file(path: str) -> None:
    """Warn about a file of keys that every user of the machine can read; Docker mounts its secrets like that."""
    file = Path(path).expanduser()
    if path and not file.is_relative_to(SECRETS) and file.stat().st_mode & stat.S_IROTH:
        log.warning("every user of this machine can read the API keys: chmod 600", api_keys_file=path)


def number_of_processes(settings: Settings) -> int:
    """`settings.processes`; for 0, one process on CUDA, where each takes memory of the device, else one per core.

    Raises:
        DeviceUnavailableError: The machine lacks the device of the settings.
    """
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _has_cuda_driver())
    if not on_cpu:
        from service.compute.device import resolve_device  # here, to keep torch, 250 MB, out of the supervisor

        on_cpu = resolve_device(settings.device) == "cpu"
    if settings.processes:
        return settings.processes
    return min(len(os.sched_getaffinity(0)), MAX_PROCESSES) if on_cpu else 1


def make_app(settings: Settings) -> ASGIApp:
    """The app of one worker process; exits the process if the app cannot be created.

    Raises:
        SystemExit: With the status after which uvicorn's supervisor does not restart the worker.
    """
    configure_logs(settings.log_level, settings.log_format)
    from service.api.app import create_app  # here, to keep torch out of the supervisor

    try:
        app = create_app(settings)
    except LossServiceError as err:
        log.error(err.detail)  # noqa: TRY400 - the message says it all
        sys.exit(STARTUP_FAILURE)
    log.info("starting", device=app.state.service.device.name, keys=len(settings.api_keys))
    return app


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which closes its own listening socket before it waits for the workers to exit.

    While that socket is open, the kernel accepts connections that no worker will answer.
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
        # The app reads X-Forwarded-* headers itself: it also has to know which host and prefix the proxy names.
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_timeout_s,
        timeout_worker_healthcheck=WORKER_ANSWERS_WITHIN_S,
        h11_max_incomplete_event_size=settings.max_head_bytes,
        max_head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
        max_connections=settings.max_connections or _default_connections(),
        write_timeout_s=settings.write_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
    )


def _raise_open_files() -> None:
    """Raise the limit of open files to what the system allows, as Go's runtime does; shells set 1024 for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _open_files(hard)
    if _open_files(soft) < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _default_connections() -> int:
    """Connections for which the limit of open files suffices: one that downloads a file takes two."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, _open_files(soft) // 2 - 64)


def _open_files(limit: int) -> int:
    """Files that a process may open under a limit, at most `MAX_OPEN_FILES`."""
    return MAX_OPEN_FILES if limit == resource.RLIM_INFINITY else min(limit, MAX_OPEN_FILES)


def _serve_with_workers(config: BodyConfig) -> None:
    with _metrics_folder():
        listener = config.bind_socket()
        supervisor = Supervisor(config, [listener])
        supervisor.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """A temporary folder for the metrics of all workers, unless the environment names one."""
    if METRICS_FOLDER_VARIABLE in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="focal-loss-metrics-") as folder:
        os.environ[METRICS_FOLDER_VARIABLE] = folder
        yield


def _has_cuda_driver() -> bool:
    with suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        return True
    return False
