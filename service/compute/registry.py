"""The focal losses held on the device, one for each meaning of a configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from service.errors import UnknownConfigError
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig


@dataclass(frozen=True, eq=False)
class HeldLoss:
    """A configuration whose instance is on the device, and how it has been used; a snapshot.

    Args:
        config: What the instance computes.
        uses: Loss requests that it has served.
        created_at: When it came to the device, UTC.
        last_used_at: When it was last asked for, UTC.
    """

    config: LossConfig
    uses: int
    created_at: datetime
    last_used_at: datetime

    @property
    def config_id(self) -> str:
        return self.config.config_id

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "uses": self.uses,
            "created_at": self.created_at.isoformat(),
            "last_used_at": self.last_used_at.isoformat(),
        }

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> HeldLoss:
        """From what `to_json` made."""
        created_at, last_used_at = (datetime.fromisoformat(members[name]) for name in ("created_at", "last_used_at"))
        return cls(LossConfig.parse(members["config"]), members["uses"], created_at, last_used_at)


def merged(held: Iterable[HeldLoss]) -> list[HeldLoss]:
    """What several processes hold, each configuration once, the most recently used first."""
    together: dict[str, HeldLoss] = {}
    for one in held:
        other = together.get(one.config_id)
        together[one.config_id] = (
            one
            if other is None
            else HeldLoss(
                one.config,
                one.uses + other.uses,
                min(one.created_at, other.created_at),
                max(one.last_used_at, other.last_used_at),
            )
        )
    return sorted(together.values(), key=lambda one: one.last_used_at, reverse=True)


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
        self._held: OrderedDict[str, tuple[FocalLoss, HeldLoss]] = OrderedDict()
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
            if config_id not in self._held:
                raise unknown_config(config_id)
            return self._used(config_id)

    def put(self, config: LossConfig) -> bool:
        """Make sure that an instance is on the device; whether it is new."""
        with self._lock:
            new = self._make(config)
            self._held.move_to_end(config.config_id)
            return new

    def drop(self, config_id: str) -> bool:
        """Let an instance go; whether there was one."""
        with self._lock:
            return self._held.pop(config_id, None) is not None

    def snapshot(self) -> list[HeldLoss]:
        """All that is held, the most recently used first."""
        with self._lock:
            return [held for _, held in reversed(self._held.values())]

    def _make(self, config: LossConfig) -> bool:
        if config.config_id in self._held:
            return False
        now = datetime.now(UTC)
        module = FocalLoss.from_config(config, self.device)
        self._held[config.config_id] = module, HeldLoss(module.config, 0, now, now)
        while len(self._held) > self.capacity:
            self._held.popitem(last=False)
        return True

    def _used(self, config_id: str) -> FocalLoss:
        module, held = self._held[config_id]
        self._held[config_id] = module, HeldLoss(held.config, held.uses + 1, held.created_at, datetime.now(UTC))
        self._held.move_to_end(config_id)
        return module


def unknown_config(config_id: str) -> UnknownConfigError:
    """The error that says that nothing is held under an id."""
    return UnknownConfigError(
        f"no configuration {config_id[:100]!r} is held: PUT it to /configs or send it as config",
        errors=[{"loc": ["config_id"], "msg": f"unknown config_id {config_id[:100]!r}"}],
    )
