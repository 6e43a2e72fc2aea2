"""The focal losses that this process holds on its device, one for each meaning of a configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from service.loss.focal import FocalLoss
from service.schema.config import LossConfig


@dataclass(eq=False)
class HeldLoss:
    """An instance on the device.

    Args:
        module: The instance.
        uses: Loss requests that it has served.
        checked_at: When its owner last looked whether it is still stored, by the monotonic clock.
    """

    module: FocalLoss
    uses: int = 0
    checked_at: float = 0.0


class LossRegistry:
    """Configurations to instances: bounded, the least recently used goes first, safe to use from many threads.

    An instance that leaves while a request computes with it lives until that request is done.

    Args:
        device: Where instances are made, e.g. `cuda:0`.
        capacity: Instances held at most, >= 1.
        changed: Called with the number of instances after each change, from any thread.
    """

    def __init__(self, device: str, capacity: int, changed: Callable[[int], None] = lambda count: None) -> None:
        self.device = device
        self.capacity = capacity
        self._held: OrderedDict[str, HeldLoss] = OrderedDict()
        self._changed = changed
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, config_id: str) -> HeldLoss | None:
        """The instance under an id, or None; makes it the most recently used one."""
        with self._lock:
            held = self._held.get(config_id)
            if held is not None:
                self._held.move_to_end(config_id)
            return held

    def add(self, config: LossConfig) -> HeldLoss:
        """The instance for a configuration, made where there is none; makes it the most recently used one."""
        with self._lock:
            held = self._held.get(config.config_id)
            if held is None:
                held = self._held[config.config_id] = HeldLoss(FocalLoss.from_config(config, self.device))
                while len(self._held) > self.capacity:
                    self._held.popitem(last=False)
                self._changed(len(self._held))
            self._held.move_to_end(config.config_id)
            return held

    def count_use(self, held: HeldLoss) -> FocalLoss:
        """The module of an instance, counted as used."""
        with self._lock:
            held.uses += 1
        return held.module

    def uses(self, config_id: str) -> int:
        """Loss requests that the instance under an id has served; 0 where there is none."""
        held = self._held.get(config_id)
        return 0 if held is None else held.uses

    def drop(self, config_id: str) -> bool:
        """Let an instance go; True if there was one."""
        with self._lock:
            dropped = self._held.pop(config_id, None) is not None
            self._changed(len(self._held))
            return dropped
