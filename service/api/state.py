"""What the routes share: one `Service` on `app.state`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request

from service.api.background import RunWork
from service.api.http.buffers import Buffers
from service.api.metrics import Metrics, summed
from service.api.middleware.sessions import Sessions
from service.compute.device import Engine
from service.compute.evaluation import Limits
from service.compute.registry import HeldLoss, LossRegistry, merged, unknown_config
from service.compute.siblings import Siblings
from service.errors import UnknownConfigError
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import RequestOptions
from service.settings import Settings

# One object, so that its config_id is computed once.
DEFAULT_CONFIG = LossConfig()


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
        siblings: This process and the others of the service.
        draining: True from SIGTERM on.
    """

    settings: Settings
    engine: Engine
    buffers: Buffers
    registry: LossRegistry
    metrics: Metrics
    runs: RunWork
    sessions: Sessions
    siblings: Siblings
    draining: bool = False

    @property
    def limits(self) -> Limits:
        return Limits(self.settings.max_elements, self.settings.max_examples)

    def module(self, options: RequestOptions) -> FocalLoss:
        """The instance that a request names or describes, counted as a use; not for the event loop.

        Raises:
            UnknownConfigError: It names one that no process holds.
        """
        if options.config_id is None:
            return self.registry.use(options.config or DEFAULT_CONFIG)
        try:
            return self.registry.use_id(options.config_id)
        except UnknownConfigError:
            for held in self.siblings.ask_from_thread({"held": options.config_id}):
                for one in held:
                    return self.registry.use(HeldLoss.from_json(one).config)
            raise

    async def put(self, config: LossConfig) -> bool:
        """Make sure that an instance is on the device; whether no process held one."""
        elsewhere = await self.siblings.ask({"held": config.config_id})
        return await self.engine.run(partial(self.registry.put, config)) and not any(elsewhere)

    async def held(self, config_id: str | None = None) -> list[HeldLoss]:
        """What all processes hold, the most recently used first: everything, or what is under an id.

        Raises:
            UnknownConfigError: Nothing is under this id.
        """
        answers = await self.siblings.ask({"held": config_id})
        theirs = [HeldLoss.from_json(one) for answer in answers for one in answer]
        held = merged([*self._held_here(config_id), *theirs])
        if config_id is not None and not held:
            raise unknown_config(config_id)
        return held

    async def drop(self, config_id: str) -> None:
        """Let an instance go in every process.

        Raises:
            UnknownConfigError: None holds it.
        """
        dropped = await self.siblings.ask({"drop": config_id})
        if not any([self.registry.drop(config_id), *dropped]):
            raise unknown_config(config_id)

    async def exposition(self) -> str:
        """The metrics of all processes together, in Prometheus' text format."""
        ours, theirs = self.metrics.exposition(), await self.siblings.ask("metrics")
        return summed([ours, *theirs]) if theirs else ours

    def answer(self, question: Any) -> Any:
        """What another process asks; see `Siblings.open`."""
        match question:
            case {"held": config_id}:
                return [held.to_json() for held in self._held_here(config_id)]
            case {"drop": config_id}:
                return self.registry.drop(config_id)
            case "metrics":
                return self.metrics.exposition()
        raise ValueError(f"unknown question {question!r}")

    def _held_here(self, config_id: str | None) -> list[HeldLoss]:
        return [held for held in self.registry.snapshot() if config_id in (None, held.config_id)]


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
