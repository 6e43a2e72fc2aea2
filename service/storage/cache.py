"""An in-memory cache with a size limit, for many threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class BoundedCache(Generic[T]):
    """LRU cache with a limit on the total size of its values; safe for many threads.

    Args:
        max_size: Maximum total size; a larger value is returned, but not stored.
        size_of: Returns the size of a value; None for 1 each.
    """

    def __init__(self, max_size: int, size_of: Callable[[T], int] | None = None) -> None:
        self._values: LRUCache[Hashable, T] = LRUCache(max_size, size_of)
        self._lock = Lock()

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key; on a miss, compute and store it.

        Two threads that miss the same key at the same time both call `compute`. Its errors are not stored.
        """
        with self._lock, suppress(KeyError):
            return self._values[key]
        return self.put(key, compute())

    def get(self, key: Hashable) -> T | None:
        """The value of a key; None if it is not stored."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Store a value, and return it."""
        # cachetools raises ValueError for a value that is larger than the whole cache.
        with self._lock, suppress(ValueError):
            self._values[key] = value
        return value
