"""What the routes share: one `Service` on `app.state`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from service.api.metrics import Metrics
from service.api.run_work import RunWork
from service.api.sessions import Sessions
from service.buffers import Buffers
from service.engine import Engine
from service.evaluation import Limits
from service.loss.focal import FocalLoss
from service.messages import LossConfig, RequestOptions
from service.registry import LossRegistry
from service.settings import Settings


@dataclass(eq=False)
class Service:
    """The parts of one running service.

    Args:
        settings: As given.
        engine: The device and its threads.
        buffers: The memory for bodies of requests.
        registry: The losses on that device.
        metrics: What /metrics shows.
        runs: The store of runs and its threads.
        sessions: Who is signed in to the page.
        draining: True from SIGTERM on.
    """

    settings: Settings
    engine: Engine
    buffers: Buffers
    registry: LossRegistry
    metrics: Metrics
    runs: RunWork
    sessions: Sessions
    draining: bool = False

    @property
    def limits(self) -> Limits:
        return Limits(self.settings.max_elements, self.settings.max_examples)

    def module(self, options: RequestOptions) -> FocalLoss:
        """The instance that a request names or describes; counts as a use.

        Raises:
            UnknownConfigError: It names one that is not held.
        """
        if options.config_id is not None:
            return self.registry.use_id(options.config_id)
        return self.registry.use(options.config or LossConfig())


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
