"""Admission: bounds the requests, and the bytes of their bodies and replies, that this process holds at once.

A request that finds no free place waits in FIFO order for up to `WAIT_S` seconds, then gets 429 with `Retry-After`. Its
body stays unread meanwhile, so a waiting request costs little more than its connection. One client holds at most three
quarters of the places and of the bytes: its further requests wait aside and do not delay those of other clients.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType

from service.errors import QueueFullError

WAIT_S = 1.0
RETRY_AFTER = {"Retry-After": "1"}

# Seconds until the receive slot of an unfinished body goes to the next request; enough for some MB in a fast network.
RECEIVE_SLOT_S = 0.05


@dataclass(eq=False, slots=True)
class ClientShare:
    """Places and bytes that one client holds and may hold.

    Args:
        max_requests: Largest number of its requests that hold a place.
        max_bytes: Largest number of their bytes; a request that is alone may hold more.
        requests: Number of its requests that hold a place.
        num_bytes: Number of their bytes.
        users: Number of its requests that hold a place or wait for one.
        aside: Its requests that wait because the share is used up.
    """

    max_requests: int
    max_bytes: int
    requests: int = 0
    num_bytes: int = 0
    users: int = 0
    aside: deque[Place] = field(default_factory=deque)

    def fits(self, declared: int) -> bool:
        """True if another request with so many bytes is within the share."""
        return self.requests < self.max_requests and (
            self.num_bytes == 0 or self.num_bytes + declared <= self.max_bytes
        )


class Admission:
    """Places for requests, bytes for their bodies and replies, and slots for receiving large bodies.

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
        self._waiting: deque[Place] = deque()
        self._shares: dict[str, ClientShare] = {}
        self._slots = asyncio.Semaphore(receive_slots)
        # Threads count bytes too.
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def requests(self) -> int:
        """Number of requests that have a place."""
        return self._requests

    @property
    def num_bytes(self) -> int:
        """Bytes of request bodies and of large replies in memory."""
        return self._bytes

    def place(self, num_bytes: int = 0, client: str = "") -> Place:
        """A place for one request; enter it with `async with`, or `enter` and `leave`, before reading the body.

        Args:
            num_bytes: Declared bytes of the body, or 0; `Place.hold` adds more.
            client: Name of the client; empty for one that may use all places.

        Raises (on entering):
            QueueFullError: No place became free within `WAIT_S`.
        """
        return Place(self, num_bytes, client)

    async def enter(self, place: Place) -> None:
        """Wait for a place; see `place`."""
        share = self._use_share(place)
        if not self._waiting and not share.aside and share.fits(place.declared) and self._take(place):
            return
        self._loop = asyncio.get_running_loop()
        place.admitted = self._loop.create_future()
        (share.aside if share.aside else self._waiting).append(place)
        self._admit_waiting()
        try:
            async with asyncio.timeout(WAIT_S):
                await place.admitted
        except BaseException as err:
            full = self._full(share)
            place.admitted.cancel()
            # It may have been admitted just now. Requests behind it may fit where it did not.
            self.leave(place)
            if isinstance(err, TimeoutError):
                raise full from None
            raise

    def free(self, place: Place) -> None:
        """Release a place but not its bytes, and admit waiting requests; on the event loop only."""
        with self._lock:
            self._count(place, -place.requests, 0)
        self._admit_next(place.share)

    def leave(self, place: Place) -> None:
        """Release a place and its bytes, and admit waiting requests; on the event loop only."""
        share = place.share
        if share is None:
            return
        with self._lock:
            self._count(place, -place.requests, -place.num_bytes)
            place.share = None
        share.users -= 1
        if not share.users:
            self._shares.pop(place.client, None)
        self._admit_next(share)

    def hold_reply(self, place: Place, count: int) -> None:
        """Add the bytes of a reply to a place; on the event loop only. See `Place.hold_reply`."""
        if place.share is None:
            self._use_share(place)
        with self._lock:
            self._count(place, 0, count)

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
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._admit_next, place.share)

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

    def _use_share(self, place: Place) -> ClientShare:
        share = self._shares.get(place.client)
        if share is None:
            share = ClientShare(self._places, self._max_bytes)
            if place.client:
                share.max_requests, share.max_bytes = -(-self._places * 3 // 4), self._max_bytes * 3 // 4
                self._shares[place.client] = share
        share.users += 1
        place.share = share
        return share

    def _take(self, place: Place) -> bool:
        with self._lock:
            fits = self._bytes + place.declared <= self._max_bytes or self._bytes == 0
            if self._requests >= self._places or not fits:
                return False
            self._count(place, 1, place.declared)
            return True

    def _count(self, place: Place, requests: int, num_bytes: int) -> None:
        """Change the counts; the caller holds the lock."""
        if place.share is None:
            return
        share = place.share
        self._requests += requests
        place.requests += requests
        share.requests += requests
        self._bytes += num_bytes
        place.num_bytes += num_bytes
        share.num_bytes += num_bytes
        self._changed(self._requests, self._bytes)

    def _admit_next(self, share: ClientShare | None) -> None:
        """Admit waiting requests, first those of a client that now holds less."""
        while share is not None and share.aside:
            first = share.aside[0]
            if first.is_waiting and not share.fits(first.declared):
                break
            share.aside.popleft()
            if first.is_waiting and (self._waiting or not self._admit(first)):
                # One for each place that is left; they wait behind the requests of others.
                self._waiting.append(first)
                break
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting:
            place = self._waiting[0]
            if place.is_waiting and place.share is not None:
                if not place.share.fits(place.declared):
                    place.share.aside.append(place)
                elif not self._admit(place):
                    return
            self._waiting.popleft()

    def _admit(self, place: Place) -> bool:
        if not self._take(place):
            return False
        assert place.admitted is not None
        place.admitted.set_result(None)
        return True

    def _full(self, share: ClientShare) -> QueueFullError:
        by_client = ""
        if share.max_requests < self._places:
            by_client = (
                f", {share.requests} of {share.max_requests} requests and {share.num_bytes} of {share.max_bytes} bytes "
                "for this client"
            )
        return QueueFullError(
            f"no place became free within {WAIT_S:g} s: this process holds {self._requests} of {self._places} requests "
            f"(queue_size) and {self._bytes} of {self._max_bytes} bytes (max_queued_bytes){by_client}",
            headers=RETRY_AFTER,
        )


class Place:
    """The place of one request; an asynchronous context manager.

    Attributes:
        declared: Bytes to hold on entering.
        client: Name of the client, or empty.
        requests: 1 while the place is held, else 0.
        num_bytes: Bytes held now.
        share: Share of the client, from `enter` to `leave`.
        admitted: Has a result when the request is admitted, if it had to wait.
    """

    __slots__ = ("_admission", "admitted", "client", "declared", "num_bytes", "requests", "share")

    def __init__(self, admission: Admission, declared: int, client: str = "") -> None:
        self._admission = admission
        self.declared = declared
        self.client = client
        self.requests = self.num_bytes = 0
        self.share: ClientShare | None = None
        self.admitted: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Place:
        await self._admission.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    @property
    def is_waiting(self) -> bool:
        """True until the request is admitted or gives up."""
        return self.admitted is not None and not self.admitted.done()

    async def enter(self, declared: int) -> None:
        """Wait for the place, and hold the declared bytes; see `Admission.place`."""
        self.declared = declared
        await self._admission.enter(self)

    def leave(self) -> None:
        """Release the place and its bytes."""
        self._admission.leave(self)

    def free(self) -> None:
        """Release the place, but hold its bytes until `leave`: what was made of the body is in use."""
        self._admission.free(self)

    def hold(self, count: int) -> None:
        """Hold more bytes until the place is left or `release` is called; from any thread.

        Raises:
            QueueFullError: All requests together would hold more than `max_queued_bytes`.
        """
        self._admission.hold(self, count)

    def hold_reply(self, count: int) -> None:
        """Hold the bytes of a reply until `leave`, even beyond the limit: they exist, and further requests wait."""
        self._admission.hold_reply(self, count)

    def release(self) -> None:
        """Release all bytes, e.g. after each batch of a stream; from any thread."""
        self._admission.release(self)
