"""Admission: bounds the requests, and the bytes of their bodies, that this process holds at once.

A request that finds no free place waits in FIFO order for up to `WAIT_S` seconds, then gets 429 with `Retry-After`. Its
body stays unread meanwhile, so a waiting request costs little more than its connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Lock
from types import TracebackType

from service.errors import QueueFullError

WAIT_S = 1.0
RETRY_AFTER = {"Retry-After": "1"}

# Seconds until the receive slot of an unfinished body goes to the next request; enough for some MB in a fast network.
RECEIVE_SLOT_S = 0.05


class Admission:
    """Places for requests, bytes for their bodies, and slots for receiving large bodies.

    Args:
        places: Largest number of requests at once, >= 1.
        max_bytes: Largest total size of request bodies in memory, >= 1. A request that is alone may hold more, up to
            the limit of a single body.
        receive_slots: Largest number of large bodies received at once, >= 1: the number of threads that process them.
        changed: Called with the number of requests and bytes held after each change, from any thread.
    """

    def __init__(
        self,
        places: int,
        max_bytes: int,
        receive_slots: int,
        changed: Callable[[int, int], None] = lambda requests, num_bytes: None,
    ) -> None:
        self._places = places
        self._max_bytes = max_bytes
        self._changed = changed
        self._requests = self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], Place]] = deque()
        self._slots = asyncio.Semaphore(receive_slots)
        # Streams count bytes on their own threads.
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def requests(self) -> int:
        """Number of requests that have a place."""
        return self._requests

    @property
    def num_bytes(self) -> int:
        """Bytes of request bodies in memory."""
        return self._bytes

    def place(self, num_bytes: int = 0) -> Place:
        """A place for one request; enter it with `async with` before reading the body.

        Args:
            num_bytes: Declared bytes of the body, or 0; `Place.hold` adds more.

        Raises (on entering):
            QueueFullError: No place became free within `WAIT_S`.
        """
        return Place(self, num_bytes)

    async def enter(self, place: Place) -> None:
        """Wait for a place; see `place`."""
        if not self._waiting and self._take(place):
            return
        self._loop = asyncio.get_running_loop()
        admitted: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((admitted, place))
        try:
            async with asyncio.timeout(WAIT_S):
                await admitted
        except BaseException as err:
            if admitted.done() and not admitted.cancelled():
                self.leave(place)
            admitted.cancel()
            # Requests behind this one may fit where it did not.
            self._admit_waiting()
            if isinstance(err, TimeoutError):
                raise self._full() from None
            raise

    def leave(self, place: Place) -> None:
        """Release a place and its bytes, and admit waiting requests; on the event loop only."""
        with self._lock:
            self._count(place, -1, -place.num_bytes)
        self._admit_waiting()

    def hold(self, place: Place, count: int) -> None:
        """Add bytes to a place; from any thread. See `Place.hold`."""
        with self._lock:
            if self._bytes + count > self._max_bytes and self._bytes > place.num_bytes:
                raise QueueFullError(
                    f"{self._bytes} bytes of request bodies are held, {count} more would exceed {self._max_bytes} "
                    "(max_queued_bytes)",
                    headers=RETRY_AFTER,
                )
            self._count(place, 0, count)

    def release(self, place: Place) -> None:
        """Release the bytes of a place; from any thread. See `Place.release`."""
        with self._lock:
            self._count(place, 0, -place.num_bytes)
        if self._waiting and self._loop is not None:
            self._loop.call_soon_threadsafe(self._admit_waiting)

    @asynccontextmanager
    async def receive_slot(self) -> AsyncIterator[Callable[[], None]]:
        """A slot to receive one large body and to process it.

        While all slots are taken, further bodies are not read, so they use no memory here. A body that is still
        arriving after `RECEIVE_SLOT_S` loses its slot to the next request, and both are received at the same time.

        Yields:
            A function to call when the body has arrived.
        """
        await self._slots.acquire()
        holds_slot = True

        def release() -> None:
            nonlocal holds_slot
            holds_slot = False
            self._slots.release()

        timer = asyncio.get_running_loop().call_later(RECEIVE_SLOT_S, release)
        try:
            yield timer.cancel
        finally:
            timer.cancel()
            if holds_slot:
                release()

    def _take(self, place: Place) -> bool:
        with self._lock:
            fits = self._bytes + place.declared <= self._max_bytes or self._bytes == 0
            if self._requests >= self._places or not fits:
                return False
            self._count(place, 1, place.declared)
            return True

    def _count(self, place: Place, requests: int, num_bytes: int) -> None:
        """Change the counts; the caller holds the lock."""
        self._requests += requests
        self._bytes += num_bytes
        place.num_bytes += num_bytes
        self._changed(self._requests, self._bytes)

    def _admit_waiting(self) -> None:
        while self._waiting:
            admitted, place = self._waiting[0]
            if not admitted.done():
                if not self._take(place):
                    return
                admitted.set_result(None)
            self._waiting.popleft()

    def _full(self) -> QueueFullError:
        return QueueFullError(
            f"no place became free within {WAIT_S:g} s: this process holds {self._requests} of {self._places} requests "
            f"(queue_size) and {self._bytes} of {self._max_bytes} bytes (max_queued_bytes)",
            headers=RETRY_AFTER,
        )


class Place:
    """The place of one request; an asynchronous context manager.

    Attributes:
        declared: Bytes to hold on entering.
        num_bytes: Bytes held now.
    """

    def __init__(self, admission: Admission, declared: int) -> None:
        self._admission = admission
        self.declared = declared
        self.num_bytes = 0

    async def __aenter__(self) -> Place:
        await self._admission.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admission.leave(self)

    def hold(self, count: int) -> None:
        """Hold more bytes until the place is left or `release` is called; from any thread.

        Raises:
            QueueFullError: All requests together would hold more than `max_queued_bytes`.
        """
        self._admission.hold(self, count)

    def release(self) -> None:
        """Release all bytes, e.g. after each batch of a stream; from any thread."""
        self._admission.release(self)
