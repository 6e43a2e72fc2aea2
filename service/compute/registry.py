"""The `FocalLoss` instances that this process holds on its device, by `config_id`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from service.loss.focal import FocalLoss
from service.schema.config import LossConfig


@dataclass(eq=False)
class HeldLoss:
    """An instance and its use.

    Args:
        module: The instance.
        uses: Loss requests that used it.
        checked_at: Last check that its configuration is still stored, seconds of the monotonic clock.
    """

    module: FocalLoss
    uses: int = 0
    checked_at: float = 0.0


class LossRegistry:
    """Bounded cache of instances; drops the least recently used; thread-safe.

    A dropped instance lives until the requests that compute with it are done.

    Args:
        device: Device of the instances, e.g. `cuda:0`.
        capacity: Largest number of instances, >= 1.
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
        """The instance with this id, or None; marks it as the most recently used."""
        with self._lock:
            held = self._held.get(config_id)
            if held is not None:
                self._held.move_to_end(config_id)
            return held

    def add(self, config: LossConfig) -> HeldLoss:
        """The instance for a configuration, created if needed; marks it as the most recently used."""
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
        """Loss requests that used the instance with this id; 0 if there is none."""
        held = self._held.get(config_id)
        return 0 if held is None else held.uses

    def drop(self, config_id: str) -> bool:
        """Drop an instance; True if there was one."""
        with self._lock:
            dropped = self._held.pop(config_id, None) is not None
            self._changed(len(self._held))
            return dropped
