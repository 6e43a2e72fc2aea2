"""An in-memory cache with a size limit, for many threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class BoundedCache(Generic[T]):
    """The least recently used values leave when the sizes add up to more than `max_size`; safe for many threads.

    Args:
        max_size: Largest sum of sizes; a value that is larger by itself is not stored.
        size_of: Size of a value; default: 1 each.
    """

    def __init__(self, max_size: int, size_of: Callable[[T], int] | None = None) -> None:
        self._values: LRUCache[Hashable, T] = LRUCache(max_size, size_of)
        self._lock = Lock()

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under the key, else that of `compute`, which is then stored.

        Two threads that miss the same key at the same time both compute. An error of `compute` is not stored.
        """
        with self._lock, suppress(KeyError):
            return self._values[key]
        value = compute()
        # cachetools refuses a value that is larger than the whole cache.
        with self._lock, suppress(ValueError):
            self._values[key] = value
        return value
