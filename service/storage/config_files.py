"""Configurations on disk: a `config_id` is valid in every process and on every host with the same data directory.

```text
configs/<config_id>.json    configuration and time of its creation; the modification time of the file is its last use
```
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter

import orjson

from service.errors import LossServiceError, StorageUnavailableError
from service.schema.config import LossConfig, memory_bytes
from service.storage.errors import is_of_machine, storage_errors
from service.storage.files import Files, modified_times

FOLDER = "configs"
CONFIG_ID = re.compile(r"fl_[0-9a-f]{16}")


@dataclass(frozen=True)
class StoredConfig:
    """A configuration as it is stored.

    Args:
        config: The configuration.
        created_at: Time of its creation, UTC.
        last_used_at: Time of its last use, UTC; in an object store, the time of its creation.
    """

    config: LossConfig
    created_at: datetime
    last_used_at: datetime


class ConfigFiles:
    """All configurations of a data directory; safe for many threads and processes.

    Args:
        files: The data directory.
        capacity: Maximum number of configurations, >= 1; beyond it the least recently used one is deleted.
        max_bytes: Maximum of their total `memory_bytes`, except for the newest.
    """

    def __init__(self, files: Files, capacity: int, max_bytes: int) -> None:
        self._files = files
        self._capacity = capacity
        self._max_bytes = max_bytes
        # An id has the same content for ever.
        self._memory_bytes: dict[str, int] = {}

    def add(self, config: LossConfig) -> bool:
        """Store a configuration; True if it is new.

        Raises:
            StorageFullError, StorageUnavailableError: It cannot be written.
        """
        path = _path(config.config_id)
        new = self.get(config.config_id) is None
        if new:
            # A damaged file would be in the way.
            self._files.delete(path)
            created_at = datetime.now(UTC).isoformat()
            content = orjson.dumps({"config": config.model_dump(mode="json"), "created_at": created_at})
            new = self._files.create(path, lambda file: file.write(content))
        self._files.touch(path)
        if new:
            self._evict()
        return new

    def has(self, config_id: str) -> bool:
        """True if there is a file for this id; faster than `get`, which also reads it."""
        return CONFIG_ID.fullmatch(config_id) is not None and self._files.exists(_path(config_id))

    def get(self, config_id: str) -> StoredConfig | None:
        """The configuration under an id; None if there is none or its file is damaged."""
        if CONFIG_ID.fullmatch(config_id) is None:
            return None
        modified_at = self._files.modified_at(_path(config_id))
        return None if modified_at is None else self._read(config_id, modified_at)

    def touch(self, config_id: str) -> None:
        """Mark a configuration as used now."""
        self._files.touch(_path(config_id))

    def remove(self, config_id: str) -> bool:
        """Delete a configuration; True if it existed."""
        if not self.has(config_id):
            return False
        self._files.delete(_path(config_id))
        return True

    def all(self) -> list[StoredConfig]:
        """All configurations, the most recently used first."""
        configs = (self._read(name.removesuffix(".json"), time) for name, time in self._newest_first())
        return [config for config in configs if config is not None]

    def _read(self, config_id: str, last_used: float) -> StoredConfig | None:
        content = self._content(_path(config_id))
        if content is not None:
            with suppress(ValueError, KeyError, TypeError, LossServiceError):
                members = orjson.loads(content)
                config = LossConfig.parse(members["config"])
                created_at = datetime.fromisoformat(members["created_at"])
                if config.config_id == config_id:
                    return StoredConfig(config, created_at, datetime.fromtimestamp(last_used, UTC))
        return None

    def _content(self, path: str) -> bytes | None:
        """The bytes of a file; None if there is no such file or it is damaged.

        Raises:
            StorageUnavailableError: The machine cannot read files now.
        """
        try:
            with storage_errors(), self._files.open(path) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except StorageUnavailableError as err:
            if is_of_machine(err):
                raise
            return None

    def _newest_first(self) -> list[tuple[str, float]]:
        """Name and modification time of each file, the most recently used first."""
        return sorted(modified_times(self._files, FOLDER).items(), key=itemgetter(1), reverse=True)

    def _evict(self) -> None:
        """Delete the least recently used configurations beyond the limits."""
        newest = [name for name, _ in self._newest_first()]
        self._memory_bytes = {name: self._memory_bytes.get(name) or self._measured(name) for name in newest}
        total = 0
        for number, name in enumerate(newest):
            total += self._memory_bytes[name]
            if number and (number >= self._capacity or total > self._max_bytes):
                self._files.delete(f"{FOLDER}/{name}")

    def _measured(self, name: str) -> int:
        """The `memory_bytes` of a stored configuration."""
        # A comma follows each weight but the last; the other members have a few.
        return memory_bytes((self._content(f"{FOLDER}/{name}") or b"").count(b","))


def _path(config_id: str) -> str:
    return f"{FOLDER}/{config_id}.json"
