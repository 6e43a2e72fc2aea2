"""Durations of the phases of a request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Timing:
    """Duration of each phase of a request, in seconds; the first phase begins now."""

    phases: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def end(self, phase: str) -> None:
        """End a phase, which began when the phase before it ended."""
        now = time.perf_counter()
        self.phases[phase] = now - self._since
        self._since = now

    def header(self) -> str:
        """The phases as a `Server-Timing` header, in milliseconds."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self.phases.items())
