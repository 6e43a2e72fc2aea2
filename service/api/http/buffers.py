"""Pool of memory for request bodies: allocating it takes longer than receiving a body into it."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from threading import RLock
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# malloc reuses smaller buffers itself.
MIN_KEPT_BYTES = 256 * 1024


def new_buffer(length: int) -> Bytes:
    """(length,) bytes, uninitialised: memory is used page by page as a body arrives, whatever length was announced."""
    return np.empty(length, np.uint8)


class BufferPool:
    """Pool of request buffers. A buffer returns to the pool when its last view is garbage-collected.

    Tensors, results and tracebacks may hold views, so the pool never reuses a buffer in use, and no user has to release
    it.

    Args:
        max_kept_bytes: Largest total size of the unused buffers; the sizes used least recently are dropped first.
    """

    def __init__(self, max_kept_bytes: int) -> None:
        self.max_kept_bytes = max_kept_bytes
        self.kept_bytes = 0
        self._unused: OrderedDict[int, list[Bytes]] = OrderedDict()
        # A garbage collection may return a buffer on a thread that holds this lock.
        self._lock = RLock()

    def take(self, length: int) -> memoryview:
        """(length,) writable bytes, uninitialised."""
        if length < MIN_KEPT_BYTES:
            return new_buffer(length).data
        whole = self._reuse_or_allocate(_capacity(length))
        view = whole[:length]
        weakref.finalize(view, self._give_back, whole).atexit = False
        return view.data

    def _reuse_or_allocate(self, capacity: int) -> Bytes:
        with self._lock:
            if buffers := self._unused.get(capacity):
                self.kept_bytes -= capacity
                return buffers.pop()
        return new_buffer(capacity)

    def _give_back(self, whole: Bytes) -> None:
        with self._lock:
            self._unused.setdefault(whole.size, []).append(whole)
            self._unused.move_to_end(whole.size)
            self.kept_bytes += whole.size
            while self.kept_bytes > self.max_kept_bytes:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        capacity, buffers = next(iter(self._unused.items()))
        if buffers:
            buffers.pop(0)
            self.kept_bytes -= capacity
        else:
            del self._unused[capacity]


def _capacity(length: int) -> int:
    """Size of the buffer for a body: rounded up, by less than a quarter, so that bodies of about one size share it."""
    step = 1 << (length.bit_length() - 3)
    return -(-length // step) * step
