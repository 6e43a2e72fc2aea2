"""The parts of the running service that routes share: one `Service` on `app.state`."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import Request

from service.api.admission import Admission
from service.api.background import RunWork
from service.api.configurations import Configurations
from service.api.http.buffers import BufferPool
from service.api.http.timing import Timing
from service.api.metrics import Metrics
from service.api.middleware.guesses import WrongKeys
from service.api.middleware.sessions import Sessions
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.compute.threads import Workers
from service.errors import DeviceUnavailableError, DrainingError
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import LossRequest, RequestOptions
from service.schema.result import LossResult
from service.settings import Settings
from service.storage.files import check_files

DEVICE_ANSWERS_WITHIN_S = 5.0
# Requests for the readiness within this time share one result: a check writes a file.
READY_CHECK_EVERY_S = 1.0

# One object, so that its config_id is computed once.
DEFAULT_CONFIG = LossConfig()


@dataclass(eq=False)
class Service:
    """The parts of one running service.

    Args:
        settings: The settings, with `processes` resolved.
        device: Computes losses.
        admission: Bounds the requests at work and the bytes of their bodies.
        threads: Threads that decode, compute and encode.
        streams: Threads for Arrow streams, one for each stream.
        buffers: Memory for request bodies.
        configurations: Instances of `FocalLoss` by configuration.
        metrics: The Prometheus metrics.
        runs: The store of runs, and its threads.
        sessions: Keys of the service and sessions of the page.
        wrong_keys: Delays replies to wrong keys.
        draining: True after SIGTERM.
    """

    settings: Settings
    device: Device
    admission: Admission
    threads: Workers
    streams: ThreadPoolExecutor
    buffers: BufferPool
    configurations: Configurations
    metrics: Metrics
    runs: RunWork
    sessions: Sessions
    wrong_keys: WrongKeys
    draining: bool = False
    _ready_check: asyncio.Task[None] | None = None
    _ready_checked_at: float = 0.0

    @property
    def limits(self) -> Limits:
        return Limits(self.settings.max_elements, self.settings.max_examples)

    def module(self, options: RequestOptions) -> FocalLoss:
        """The instance that a request names or describes, counted as used; do not call it on the event loop.

        Raises:
            UnknownConfigError: The request names a configuration that is not stored.
        """
        if options.config_id is None:
            return self.configurations.use(options.config or DEFAULT_CONFIG)
        return self.configurations.use_id(options.config_id)

    def evaluate(self, request: LossRequest, timing: Timing) -> LossResult:
        """Compute a decoded request and count it in the metrics; ends the phases `decode` and `compute`."""
        timing.end("decode")
        result = evaluate(self.device, self.module(request.options), request, self.limits)
        for batch in result.batches:
            self.metrics.count(batch)
        timing.end("compute")
        return result

    async def check_ready(self) -> None:
        """Raise if the service should get no requests; device and store are checked at most once a second.

        Raises:
            DrainingError: The service is shutting down.
            DeviceUnavailableError: The device does not compute, or not in time.
            StorageUnavailableError, StorageFullError: The data directory cannot be written.
        """
        if self.draining:
            raise DrainingError("the service is shutting down and takes no new requests", headers={"Retry-After": "5"})
        now, check = time.monotonic(), self._ready_check
        if check is None or (check.done() and now - self._ready_checked_at >= READY_CHECK_EVERY_S):
            check = self._ready_check = asyncio.create_task(self._check_device_and_store())
            check.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._ready_checked_at = now
        await asyncio.shield(check)

    async def _check_device_and_store(self) -> None:
        try:
            # On another thread: the threads for losses may all be busy while the device works well.
            await asyncio.wait_for(asyncio.to_thread(self.device.check), DEVICE_ANSWERS_WITHIN_S)
        except TimeoutError as err:
            raise DeviceUnavailableError(
                f"{self.device.name} did not answer within {DEVICE_ANSWERS_WITHIN_S:g} s"
            ) from err
        await asyncio.to_thread(check_files, self.runs.store.files)

    def close(self) -> None:
        """Finish the current work and end all threads."""
        self.threads.close()
        self.streams.shutdown(wait=True)
        self.runs.close()


def service_of(request: Request) -> Service:
    """The service that serves this request."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
