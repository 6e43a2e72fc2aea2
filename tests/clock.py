"""An event loop's time for tests that do not wait."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Clock:
    """An event loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        timer = (self.now + delay, call)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    @property
    def is_idle(self) -> bool:
        return not self.timers

    def pass_to(self, now: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= now]:
            self.now, call = min(due, key=lambda timer: timer[0])
            self.timers.remove((self.now, call))
            call()
        self.now = now
