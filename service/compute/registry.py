"""The `FocalLoss` instances that this process holds on its device, by `config_id`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from service.loss.focal import FocalLoss
from service.schema.config import LossConfig, memory_bytes


@dataclass(eq=False)
class LossInstance:
    """An instance of `FocalLoss` and its use.

    Args:
        module: The instance.
        uses: Number of loss requests that used it.
        checked_at: Time of the last check that its configuration is still stored, seconds of the monotonic clock.
    """

    module: FocalLoss
    uses: int = 0
    checked_at: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Approximate memory of the instance and its configuration."""
        return memory_bytes(len(self.module.config.weights or ()))


class LossRegistry:
    """Bounded cache of instances by `config_id`; drops the least recently used; thread-safe.

    A dropped instance lives until the requests that compute with it are done. The newest is never dropped.

    Args:
        device: Device of the instances, e.g. `cuda:0`.
        capacity: Largest number of instances, >= 1.
        max_bytes: Largest total of their `memory_bytes`.
        changed: Called with the number of instances after each change, from any thread.
    """

    def __init__(
        self, device: str, capacity: int, max_bytes: int, changed: Callable[[int], None] = lambda count: None
    ) -> None:
        self.device = device
        self.capacity = capacity
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._instances: OrderedDict[str, LossInstance] = OrderedDict()
        self._changed = changed
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._instances)

    def get(self, config_id: str) -> LossInstance | None:
        """The instance with this id, or None; marks it as the most recently used."""
        with self._lock:
            instance = self._instances.get(config_id)
            if instance is not None:
                self._instances.move_to_end(config_id)
            return instance

    def add(self, config: LossConfig) -> LossInstance:
        """The instance for a configuration, created if needed; marks it as the most recently used."""
        instance = self.get(config.config_id)
        if instance is not None:
            return instance
        # Outside of the lock: a large configuration takes a while.
        new = LossInstance(FocalLoss.from_config(config, self.device))
        with self._lock:
            instance = self._instances.get(config.config_id)
            if instance is None:
                instance = self._instances[config.config_id] = new
                self.num_bytes += instance.num_bytes
                self._drop_oldest()
            self._instances.move_to_end(config.config_id)
            return instance

    def _drop_oldest(self) -> None:
        while len(self._instances) > 1 and (len(self._instances) > self.capacity or self.num_bytes > self._max_bytes):
            self.num_bytes -= self._instances.popitem(last=False)[1].num_bytes
        self._changed(len(self._instances))

    def count_use(self, instance: LossInstance) -> FocalLoss:
        """The module of an instance, counted as used."""
        with self._lock:
            instance.uses += 1
        return instance.module

    def uses(self, config_id: str) -> int:
        """Number of loss requests that used the instance with this id; 0 if there is none."""
        instance = self._instances.get(config_id)
        return 0 if instance is None else instance.uses

    def drop(self, config_id: str) -> bool:
        """Drop an instance; True if there was one."""
        with self._lock:
            dropped = self._instances.pop(config_id, None)
            if dropped is not None:
                self.num_bytes -= dropped.num_bytes
            self._changed(len(self._instances))
            return dropped is not None
