"""Time for a body to arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

# Seconds before the least rate counts: a client may need some to begin.
GRACE_S = 10.0


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Pace:
    """Deadlines of a body that begins to arrive now.

    Args:
        timeout_s: Seconds for the whole body.
        min_bytes_per_s: Least average rate after `GRACE_S` seconds; 0 for none.
    """

    timeout_s: float
    min_bytes_per_s: int = 0
    started_at: float = field(default_factory=_now)

    def deadline(self, received: int) -> float:
        """Time of the event loop by which more bytes or the end have to arrive, after so many bytes."""
        end = self.started_at + self.timeout_s
        if not self.min_bytes_per_s:
            return end
        return min(end, self.started_at + GRACE_S + received / self.min_bytes_per_s)

    @property
    def rule(self) -> str:
        """The limits, for the message of an error."""
        rate = f" or came at less than {self.min_bytes_per_s} bytes/s (min_bytes_per_s)" if self.min_bytes_per_s else ""
        return f"the body did not arrive in {self.timeout_s:g} s (body_timeout_s){rate}"
