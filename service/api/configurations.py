"""Configurations of the service: instances on the device of this process, and files shared by all processes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import structlog

from service.compute.registry import LossInstance, LossRegistry
from service.errors import StorageFullError, StorageUnavailableError, UnknownConfigError
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.storage.config_files import ConfigFiles, StoredConfig

# Seconds between checks that another process has not deleted a configuration. A request checks as well if the previous
# request used another configuration.
CHECK_EVERY_S = 5.0

log = structlog.get_logger("service.configs")


@dataclass(frozen=True)
class Configuration:
    """One configuration as the API shows it.

    Args:
        config: The configuration.
        uses: Number of loss requests in this process that used it, since its instance was created.
        created_at: Time at which it was first stored, UTC.
        last_used_at: Time at which it was last stored or used, UTC.
    """

    config: LossConfig
    uses: int
    created_at: datetime
    last_used_at: datetime


class Configurations:
    """Configurations by their id; thread-safe. All methods read or write files: do not call them on the event loop.

    A configuration inside a loss request is stored too, since the reply names its id. If the data directory cannot be
    written, losses are still computed, and a `config_id` is known in one process only.

    Args:
        registry: The instances of this process.
        files: The configurations of all processes.
    """

    def __init__(self, registry: LossRegistry, files: ConfigFiles) -> None:
        self._registry = registry
        self._files = files
        self._last_used = ""
        self._warned = False

    @property
    def capacity(self) -> int:
        return self._registry.capacity

    def use(self, config: LossConfig) -> FocalLoss:
        """The instance for a configuration, counted as used."""
        instance = self._registry.get(config.config_id) or self._registry.add(config)
        if self._is_due(config.config_id, instance):
            self._store(config)
        return self._registry.count_use(instance)

    def use_id(self, config_id: str) -> FocalLoss:
        """The instance for a `config_id`, counted as used.

        Raises:
            UnknownConfigError: No configuration is stored under this id.
        """
        instance = self._registry.get(config_id)
        if instance is None:
            stored = self._files.get(config_id)
            if stored is None:
                raise unknown_config(config_id)
            instance = self._registry.add(stored.config)
        if self._is_due(config_id, instance) and not self._warned:
            if not self._files.has(config_id):
                self._registry.drop(config_id)
                raise unknown_config(config_id)
            self._files.touch(config_id)
        return self._registry.count_use(instance)

    def put(self, config: LossConfig) -> bool:
        """Store a configuration and hold its instance on the device; True if it was not stored before.

        Raises:
            StorageFullError, StorageUnavailableError: It cannot be stored.
        """
        new = self._files.add(config)
        self._registry.add(config).checked_at = time.monotonic()
        return new

    def get(self, config_id: str) -> Configuration:
        """One stored configuration.

        Raises:
            UnknownConfigError: No configuration is stored under this id.
        """
        stored = self._files.get(config_id)
        if stored is None:
            raise unknown_config(config_id)
        return self._with_uses(stored)

    def check(self, config_id: str) -> None:
        """Raise if no configuration is stored under an id; faster than `get`.

        Raises:
            UnknownConfigError: No configuration is stored under this id.
        """
        if not self._files.has(config_id) and not (self._warned and self._registry.get(config_id)):
            raise unknown_config(config_id)

    def all(self) -> list[Configuration]:
        """All stored configurations, the most recently used first."""
        return [self._with_uses(stored) for stored in self._files.all()]

    def drop(self, config_id: str) -> None:
        """Delete a configuration for all processes.

        Raises:
            UnknownConfigError: No configuration is stored under this id.
        """
        stored, instance = self._files.remove(config_id), self._registry.drop(config_id)
        if not (stored or instance):
            raise unknown_config(config_id)

    def _is_due(self, config_id: str, instance: LossInstance) -> bool:
        """True if the file must be checked: at first, after another configuration, every `CHECK_EVERY_S` seconds."""
        now = time.monotonic()
        due = config_id != self._last_used or now - instance.checked_at >= CHECK_EVERY_S
        self._last_used = config_id
        if due:
            instance.checked_at = now
        return due

    def _with_uses(self, stored: StoredConfig) -> Configuration:
        uses = self._registry.uses(stored.config.config_id)
        return Configuration(stored.config, uses, stored.created_at, stored.last_used_at)

    def _store(self, config: LossConfig) -> None:
        try:
            self._files.add(config)
        except (StorageFullError, StorageUnavailableError, OSError) as err:
            if not self._warned:
                log.warning("configurations cannot be stored: a config_id is known in one process only", error=str(err))
            self._warned = True
        else:
            self._warned = False


def unknown_config(config_id: str) -> UnknownConfigError:
    """The error for an id under which no configuration is stored."""
    msg = f"unknown config_id {config_id[:100]!r}"
    detail = f"no configuration {config_id[:100]!r} is held: PUT it to /configs or send it as config"
    return fault(UnknownConfigError, msg, "config_id", detail=detail)
