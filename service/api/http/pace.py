"""Time for a body to arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

# Seconds before the least rate counts: a client may need some to begin.
GRACE_S = 10.0


class Pace:
    """Deadlines of a body; its time begins with the first call of `deadline`, which a small body does not need.

    Args:
        timeout_s: Seconds for the whole body.
        min_bytes_per_s: Least average rate after `GRACE_S` seconds; 0 for none.
    """

    __slots__ = ("_min_bytes_per_s", "_started_at", "_timeout_s")

    def __init__(self, timeout_s: float, min_bytes_per_s: int) -> None:
        self._timeout_s = timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        self._started_at: float | None = None

    def deadline(self, received: int) -> float:
        """Time of the event loop by which more bytes or the end have to arrive, after so many bytes."""
        if self._started_at is None:
            self._started_at = asyncio.get_running_loop().time()
        end = self._started_at + self._timeout_s
        if not self._min_bytes_per_s:
            return end
        return min(end, self._started_at + GRACE_S + received / self._min_bytes_per_s)

    @property
    def rule(self) -> str:
        """The limits, for the message of an error."""
        least = self._min_bytes_per_s
        rate = f" or came at less than {least} bytes/s (min_bytes_per_s)" if least else ""
        return f"the body did not arrive in {self._timeout_s:g} s (body_timeout_s){rate}"


class InTime:
    """Block that ends with `TimeoutError` when bytes arrive too slowly; an asynchronous context manager.

    Args:
        deadline: See `Pace.deadline`; None is no deadline.
        received: Returns the number of bytes that have arrived. Called only when a deadline has come.
    """

    def __init__(self, deadline: Callable[[int], float | None], received: Callable[[], int]) -> None:
        self._deadline = deadline
        self._received = received
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._check()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def _check(self) -> None:
        loop, when = asyncio.get_running_loop(), self._deadline(self._received())
        if when is None:
            return
        if when > loop.time():
            self._timer = loop.call_at(when, self._check)
        else:
            self._limit.reschedule(when)
