"""The focal losses held on the device, one for each meaning of a configuration."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from service.errors import UnknownConfigError
from service.loss.focal import FocalLoss
from service.messages import LossConfig


@dataclass(frozen=True, eq=False)
class HeldLoss:
    """An instance on the device and how it has been used; a snapshot.

    Args:
        module: The loss itself.
        uses: Loss requests that it has served.
        created_at: When it came to the device, UTC.
        last_used_at: When it was last asked for, UTC.
    """

    module: FocalLoss
    uses: int
    created_at: datetime
    last_used_at: datetime

    @property
    def config(self) -> LossConfig:
        return self.module.config

    @property
    def config_id(self) -> str:
        return self.module.config.config_id


class LossRegistry:
    """Configurations to instances: bounded, least recently used out first, safe to use from many threads.

    An instance that leaves while a request computes with it lives until that request is done.

    Args:
        device: Where instances are made, e.g. `cuda:0`.
        capacity: Instances held at most, >= 1.
    """

    def __init__(self, device: str, capacity: int) -> None:
        self.device = device
        self.capacity = capacity
        self._held: OrderedDict[str, HeldLoss] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._held)

    def use(self, config: LossConfig) -> FocalLoss:
        """The instance for a configuration, made where it is not there yet; counts as a use."""
        with self._lock:
            self._make(config)
            return self._used(config.config_id)

    def use_id(self, config_id: str) -> FocalLoss:
        """The instance that is held under an id; counts as a use.

        Raises:
            UnknownConfigError: None is.
        """
        with self._lock:
            self._find(config_id)
            return self._used(config_id)

    def put(self, config: LossConfig) -> tuple[HeldLoss, bool]:
        """Make sure that an instance is on the device; the flag says whether it is new."""
        with self._lock:
            new = self._make(config)
            self._held.move_to_end(config.config_id)
            return self._held[config.config_id], new

    def get(self, config_id: str) -> HeldLoss:
        """What is held under an id, without using it.

        Raises:
            UnknownConfigError: None is.
        """
        with self._lock:
            return self._find(config_id)

    def drop(self, config_id: str) -> None:
        """Let an instance go.

        Raises:
            UnknownConfigError: None is held under this id.
        """
        with self._lock:
            self._find(config_id)
            del self._held[config_id]

    def snapshot(self) -> list[HeldLoss]:
        """All that is held, the most recently used first."""
        with self._lock:
            return list(reversed(self._held.values()))

    def _make(self, config: LossConfig) -> bool:
        if config.config_id in self._held:
            return False
        now = datetime.now(UTC)
        self._held[config.config_id] = HeldLoss(FocalLoss.from_config(config, self.device), 0, now, now)
        while len(self._held) > self.capacity:
            self._held.popitem(last=False)
        return True

    def _used(self, config_id: str) -> FocalLoss:
        held = self._held[config_id]
        self._held[config_id] = HeldLoss(held.module, held.uses + 1, held.created_at, datetime.now(UTC))
        self._held.move_to_end(config_id)
        return held.module

    def _find(self, config_id: str) -> HeldLoss:
        try:
            return self._held[config_id]
        except KeyError:
            raise UnknownConfigError(
                f"no configuration {config_id[:100]!r} is held: PUT it to /configs or send it as config",
                errors=[{"loc": ["config_id"], "msg": f"unknown config_id {config_id[:100]!r}"}],
            ) from None
