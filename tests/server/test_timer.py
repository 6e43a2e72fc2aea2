"""A timer that lasts over many settings."""

from __future__ import annotations

from typing import Any, cast

import pytest

from service.server.timer import Timer
from tests.clock import Clock


class TestTimer:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def calls(self) -> list[float]:
        return []

    @pytest.fixture
    def timer(self, clock: Clock, calls: list[float]) -> Timer:
        return Timer(cast(Any, clock), lambda: calls.append(clock.now))

    def test_it_calls_once_when_its_time_has_come(self, clock: Clock, timer: Timer, calls: list[float]) -> None:
        timer.set(5)
        clock.pass_to(4.9)
        assert calls == []
        clock.pass_to(20)
        assert calls == [5]
        timer.set(5)
        clock.pass_to(40)
        assert calls == [5, 25]

    def test_set_anew_it_calls_later_and_takes_one_timer_of_the_loop(
        self, clock: Clock, timer: Timer, calls: list[float]
    ) -> None:
        for tenth in range(81):
            clock.pass_to(tenth / 10)
            timer.set(5)
            assert len(clock.timers) == 1
        clock.pass_to(30)
        assert calls == [13]
        assert not clock.timers

    def test_unset_it_does_not_call(self, clock: Clock, timer: Timer, calls: list[float]) -> None:
        timer.set(5)
        timer.unset()
        clock.pass_to(3)
        timer.set(5)
        clock.pass_to(6)
        timer.unset()
        clock.pass_to(30)
        assert calls == []
        assert not clock.timers

    def test_its_end_leaves_nothing_in_the_loop(self, clock: Clock, timer: Timer, calls: list[float]) -> None:
        timer.end()
        timer.set(5)
        timer.end()
        assert not clock.timers
        clock.pass_to(30)
        assert calls == []
