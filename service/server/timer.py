"""A timer that is set and unset all the time and hardly ever runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls once its time has come, unless it was unset or set anew: which happens with each request, and so may cost
    nothing. Of the loop's timers it takes another only when one has run out; uvloop works for each that is cancelled.

    Args:
        loop: Whose timers it takes.
        call: What to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._due: float | None = None
        self._running: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Call so many seconds from now; they are the same each time."""
        self._due = self._loop.time() + delay_s
        if self._running is None:
            self._running = self._loop.call_later(delay_s, self._look)

    def unset(self) -> None:
        """Do not call."""
        self._due = None

    def end(self) -> None:
        """Do not call, ever again."""
        self._due = None
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _look(self) -> None:
        self._running = None
        if self._due is None:
            return
        left = self._due - self._loop.time()
        if left > 0:
            self._running = self._loop.call_later(left, self._look)
        else:
            self._due = None
            self._call()
