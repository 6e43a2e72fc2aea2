"""The bounded cache: computes once, evicts the least recently used values, and stores no value that is too large."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.storage.cache import BoundedCache


def test_a_value_is_computed_once() -> None:
    cache: BoundedCache[int] = BoundedCache(3)
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return 7

    assert [cache.cached("a", compute) for _ in range(3)] == [7, 7, 7]
    assert calls == [1]


def test_the_least_recently_used_values_are_evicted_first() -> None:
    cache: BoundedCache[str] = BoundedCache(6, len)
    for key in ("aa", "bb", "cc", "aa", "dd"):
        cache.cached(key, lambda key=key: key)
    cached = [key for key in ("aa", "cc", "dd", "bb") if cache.cached(key, lambda: "new") == key]
    assert cached == ["aa", "cc", "dd"]


def test_a_value_larger_than_the_cache_is_returned_and_not_stored() -> None:
    cache: BoundedCache[str] = BoundedCache(3, len)
    assert cache.cached("a", lambda: "xxxx") == "xxxx"
    assert cache.cached("a", lambda: "yy") == "yy"


def test_an_error_is_not_cached() -> None:
    cache: BoundedCache[int] = BoundedCache(3)

    def fail() -> int:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        cache.cached("a", fail)
    assert cache.cached("a", lambda: 1) == 1


def test_many_threads_use_one_cache() -> None:
    cache: BoundedCache[int] = BoundedCache(10)
    with ThreadPoolExecutor(8) as threads:
        numbers = [number % 25 for number in range(5000)]
        assert list(threads.map(lambda number: cache.cached(number, lambda: number), numbers)) == numbers
