"""Time for a body to arrive."""

from __future__ import annotations

import asyncio

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
