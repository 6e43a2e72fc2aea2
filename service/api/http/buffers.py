"""Memory for the bodies of requests, kept for the next ones: to get it anew costs more than to receive a body in it."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from threading import RLock
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# What is smaller malloc itself keeps.
MIN_KEPT_BYTES = 256 * 1024


def fresh(length: int) -> Bytes:
    """(length,) bytes, untouched: pages that nothing is written to take no memory, however much a client announces."""
    return np.empty(length, np.uint8)


class Buffers:
    """Makes buffers, and keeps those that nobody looks at any more.

    A buffer comes back when its last view is gone, be it a tensor, a result or a traceback: so none is given out twice,
    and nobody has to say when he is done.

    Args:
        max_kept_bytes: Of the buffers that nobody uses; those of the sizes that were used last are kept.
    """

    def __init__(self, max_kept_bytes: int) -> None:
        self.max_kept_bytes = max_kept_bytes
        self.kept_bytes = 0
        self._kept: OrderedDict[int, list[Bytes]] = OrderedDict()
        # A garbage collection may bring a buffer back on a thread that is in here already.
        self._lock = RLock()

    def take(self, length: int) -> memoryview:
        """(length,) writable bytes with anything in them."""
        if length < MIN_KEPT_BYTES:
            return fresh(length).data
        whole = self._taken(_capacity(length))
        view = whole[:length]
        weakref.finalize(view, self._give_back, whole).atexit = False
        return view.data

    def _taken(self, capacity: int) -> Bytes:
        with self._lock:
            if kept := self._kept.get(capacity):
                self.kept_bytes -= capacity
                return kept.pop()
        return fresh(capacity)

    def _give_back(self, whole: Bytes) -> None:
        with self._lock:
            self._kept.setdefault(whole.size, []).append(whole)
            self._kept.move_to_end(whole.size)
            self.kept_bytes += whole.size
            while self.kept_bytes > self.max_kept_bytes:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        capacity, kept = next(iter(self._kept.items()))
        if kept:
            kept.pop(0)
            self.kept_bytes -= capacity
        else:
            del self._kept[capacity]


def _capacity(length: int) -> int:
    """In steps, so that bodies of about one size share buffers; less than 5/4 of the length."""
    step = 1 << (length.bit_length() - 3)
    return -(-length // step) * step
