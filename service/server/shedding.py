"""What a full service answers: at once, before anything is made of a request; and when it listens again.

Whoever is refused asks again. Taken through the whole app, a refusal would cost a fifth of an answer, and a crowd would
take the time of those who have a place. So would one that does not wait as long as `Retry-After` says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from service.api.middleware.context import request_id_of
from service.api.state import Service
from service.errors import LossServiceError

PATH = b"/loss"
LOGGED_EVERY_S = 1.0
# As Retry-After says.
WAITS_S = 1.0
# Besides, at each answer one comes in; but who was let in may send nothing, and is never answered.
LOOKS_EVERY_S = 0.05

log = structlog.get_logger("service.access")


def wants_place(target: bytes) -> bool:
    """Whether a request for this has a place in the queue."""
    return target.partition(b"?")[0] == PATH


class Shedding:
    """Refuses `POST /loss` while the queue is full; see `BoundedHttpProtocol.refusal`.

    Every refusal is counted; of those within a second one line is logged.

    Args:
        service: Whose queue it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._error = service.engine.full()
        # Requests that were let through in this turn of the loop: they take their places in the next one.
        self._let_through = 0
        self._not_logged = 0
        self._logged_at = -LOGGED_EVERY_S

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> tuple[LossServiceError, str] | None:
        """The error and the request's id; None for what is not refused here."""
        if method != b"POST" or not wants_place(target):
            return None
        if self._service.engine.free_places > self._let_through:
            if not self._let_through:
                asyncio.get_running_loop().call_soon(self._next_turn)
            self._let_through += 1
            return None
        given = dict(headers)
        if self._service.settings.api_keys and not self._service.sessions.has_key(
            given.get(b"authorization", b"").decode("latin-1")
        ):
            return None
        self._service.metrics.count_request("POST", "/loss", self._error.status, 0)
        request_id = request_id_of(given.get(b"x-request-id", b"").decode("latin-1"))
        self._log(request_id)
        return self._error, request_id

    def _next_turn(self) -> None:
        self._let_through = 0

    def _log(self, request_id: str) -> None:
        self._not_logged += 1
        now = time.monotonic()
        if now - self._logged_at < LOGGED_EVERY_S:
            return
        fields = {"request_id": request_id, "method": "POST", "path": "/loss", "code": self._error.code}
        log.warning("refused", **fields, status=self._error.status, requests=self._not_logged)
        self._not_logged, self._logged_at = 0, now


def room(service: Service) -> int:
    """How many of those who wait for a place this process may let in now.

    They fill its share of half of the queue: in one that they fill whole, who comes by himself finds no place, is
    refused, and waits in turn. One more comes in whenever little work waits here, or else those who have a place and
    are slow to send would hold up all others.
    """
    engine, processes = service.engine, service.siblings.processes
    half = engine.queue_size - engine.queue_size // 2
    share = -(-half // processes)
    one_more = int(engine.waiting <= share // 4)
    return min(engine.free_places, max(share - engine.requests, one_more))


class Line:
    """Who was refused, and behind him who is answered meanwhile, in the order in which they came.

    Without the latter those who have a place would keep it, and the others would be refused again and again.
    See `BoundedHttpProtocol.wait_for_place` and `after_answer`.

    Args:
        room: How many of them may be let in now.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        # Each with the time when it has waited long enough.
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Have it called once there is a place and nobody before it waits, but after `WAITS_S` at the latest."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(LOOKS_EVERY_S, self._look)
        self._waiting.append((loop.time() + WAITS_S, go_on))

    def after_answer(self, target: bytes, go_on: Callable[[], None]) -> bool:
        """Have who was answered wait behind those who wait, if any do, and the first of them take the place.

        Args:
            target: Of the request. Who asked for something else than a loss had no place.
            go_on: As for `wait`.

        Returns:
            Whether he waits.
        """
        if not self._waiting or not wants_place(target):
            return False
        self.wait(go_on)
        for first in self._leave(min(1, self._room())):
            first()
        return True

    def _look(self) -> None:
        leaving = self._leave(self._room())
        if self._waiting:
            asyncio.get_running_loop().call_later(LOOKS_EVERY_S, self._look)
        for go_on in leaving:
            go_on()

    def _leave(self, most: int) -> list[Callable[[], None]]:
        """Take the first ones out of the line, and all who have waited long enough."""
        now = asyncio.get_running_loop().time()
        leaving: list[Callable[[], None]] = []
        while self._waiting and (len(leaving) < most or self._waiting[0][0] <= now):
            leaving.append(self._waiting.popleft()[1])
        return leaving
