"""Admission: places and bytes in FIFO order, a deadline, and receive slots for large bodies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import admission as admission_module
from service.api.admission import Admission
from service.errors import QueueFullError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "WAIT_S", 0.2)
    monkeypatch.setattr(admission_module, "RECEIVE_SLOT_S", 0.02)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within_time() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(within_time())


async def hold(admission: Admission, name: str, order: list[str], end: asyncio.Event, num_bytes: int = 0) -> None:
    """Take a place, note the name, and keep the place until `end`."""
    async with admission.place(num_bytes):
        order.append(name)
        await end.wait()


async def run_tasks() -> None:
    """Let all tasks run as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


class TestPlaces:
    def test_a_request_past_the_places_waits_for_one(self) -> None:
        @run
        async def test() -> None:
            admission, order, ends = Admission(2, 100, 1), [], [asyncio.Event() for _ in "abc"]
            tasks = [asyncio.create_task(hold(admission, name, order, ends[i])) for i, name in enumerate("abc")]
            await run_tasks()
            assert (order, admission.requests) == (["a", "b"], 2)
            ends[0].set()
            await run_tasks()
            assert (order, admission.requests) == (["a", "b", "c"], 2)
            for end in ends:
                end.set()
            await asyncio.gather(*tasks)
            assert (admission.requests, admission.num_bytes) == (0, 0)

    def test_after_the_deadline_it_is_429_with_retry_after(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(1, 100, 1)
            async with admission.place():
                with pytest.raises(QueueFullError) as caught:
                    async with admission.place():
                        raise AssertionError("admitted")
                assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
                assert "1 of 1 requests (queue_size)" in caught.value.detail
                assert admission.requests == 1
            async with admission.place():
                assert admission.requests == 1

    def test_waiting_requests_are_admitted_in_their_order(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(1, 100, 1), [], asyncio.Event()
            names = [f"{number:02}" for number in range(20)]
            tasks = [asyncio.create_task(hold(admission, name, order, end)) for name in names]
            await run_tasks()
            end.set()
            await asyncio.gather(*tasks)
            assert order == names

    def test_a_new_request_does_not_overtake_a_waiting_one(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(2, 100, 1), [], asyncio.Event()
            async with admission.place(90):
                large = asyncio.create_task(hold(admission, "large", order, end, 50))
                await run_tasks()
                small = asyncio.create_task(hold(admission, "small", order, end, 1))
                await run_tasks()
                assert order == []
            end.set()
            await asyncio.gather(large, small)
            assert order == ["large", "small"]

    def test_when_the_first_waiting_request_is_cancelled_the_next_is_admitted(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(3, 100, 1), [], asyncio.Event()
            async with admission.place(90):
                large = asyncio.create_task(hold(admission, "large", order, end, 50))
                await run_tasks()
                small = asyncio.create_task(hold(admission, "small", order, end, 1))
                await run_tasks()
                large.cancel()
                await run_tasks()
                assert order == ["small"]
                end.set()
                await small
            assert (admission.requests, admission.num_bytes) == (0, 0)

    @pytest.mark.parametrize("error", [ValueError("in the codec"), asyncio.CancelledError(), KeyboardInterrupt()])
    def test_an_exception_releases_the_place_and_its_bytes(self, error: BaseException) -> None:
        admission = Admission(3, 100, 1)

        async def request() -> None:
            async with admission.place(20) as place:
                place.hold(50)
                raise error

        with pytest.raises(type(error)):
            asyncio.run(request())
        assert (admission.requests, admission.num_bytes) == (0, 0)

    @given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
    def test_the_bounds_hold_and_nothing_is_left_over(self, requests: list[tuple[int, int, bool]]) -> None:
        @run
        async def test() -> None:
            admission = Admission(3, 100, 1)

            async def request(num_bytes: int, steps: int) -> None:
                async with admission.place(num_bytes):
                    for _ in range(steps):
                        assert admission.requests <= 3
                        assert admission.num_bytes <= 100
                        await asyncio.sleep(0)

            tasks = [asyncio.create_task(request(num_bytes, steps)) for num_bytes, steps, _ in requests]
            await asyncio.sleep(0)
            for task, (_, _, cancelled) in zip(tasks, requests, strict=True):
                if cancelled:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not [task for task in tasks if not task.cancelled() and task.exception()]
            assert (admission.requests, admission.num_bytes) == (0, 0)


class TestBytes:
    def test_a_body_waits_until_its_bytes_fit(self) -> None:
        @run
        async def test() -> None:
            admission, order, ends = Admission(9, 100, 1), [], [asyncio.Event(), asyncio.Event()]
            first = asyncio.create_task(hold(admission, "first", order, ends[0], 60))
            second = asyncio.create_task(hold(admission, "second", order, ends[1], 41))
            await run_tasks()
            assert (order, admission.num_bytes) == (["first"], 60)
            ends[0].set()
            await run_tasks()
            assert (order, admission.num_bytes) == (["first", "second"], 41)
            ends[1].set()
            await asyncio.gather(first, second)

    def test_a_request_alone_may_hold_more(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(9, 100, 1)
            async with admission.place(150) as alone:
                alone.hold(100)
                assert admission.num_bytes == 250
                with pytest.raises(QueueFullError, match=r"250 of 100 bytes \(max_queued_bytes\)"):
                    async with admission.place(1):
                        pass

    def test_chunks_that_would_pass_the_limit_are_refused_at_once(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(9, 100, 1)
            async with admission.place(60), admission.place() as chunked:
                chunked.hold(40)
                with pytest.raises(QueueFullError, match="max_queued_bytes") as caught:
                    chunked.hold(1)
                assert caught.value.headers == {"Retry-After": "1"}
                assert admission.num_bytes == 100

    def test_bytes_released_on_another_thread_admit_a_waiting_request(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(9, 100, 1), [], asyncio.Event()
            async with admission.place() as stream:
                stream.hold(80)
                waiting = asyncio.create_task(hold(admission, "waiting", order, end, 50))
                await run_tasks()
                assert order == []
                await asyncio.to_thread(stream.release)
                await run_tasks()
                assert (order, admission.num_bytes) == (["waiting"], 50)
                end.set()
                await waiting

    def test_many_threads_count_right(self) -> None:
        changes: list[tuple[int, int]] = []

        @run
        async def test() -> None:
            admission = Admission(9, 1_000_000, 1, lambda requests, num_bytes: changes.append((requests, num_bytes)))
            together = threading.Barrier(4)

            def count() -> None:
                together.wait(10)
                for _ in range(200):
                    place.hold(3)

            async with admission.place() as place:
                await asyncio.gather(*(asyncio.to_thread(count) for _ in range(4)))
                assert admission.num_bytes == place.num_bytes == 4 * 200 * 3
            assert admission.num_bytes == 0

        assert changes[-1] == (0, 0)
        assert max(changes) == (1, 2400)


class TestReceiveSlots:
    """As many large bodies are received at once as there are slots; a slow body loses its slot after a while."""

    async def quick(self, admission: Admission, order: list[str], name: str, end: asyncio.Event) -> None:
        """A body that arrives at once, and whose work takes until `end`."""
        async with admission.receive_slot() as arrived:
            arrived()
            order.append(name)
            await end.wait()

    def test_as_many_as_slots_in_fifo_order(self) -> None:
        @run
        async def test() -> None:
            admission, order, ends = Admission(9, 100, 2), [], [asyncio.Event() for _ in "abcd"]
            tasks = [asyncio.create_task(self.quick(admission, order, name, ends[i])) for i, name in enumerate("abcd")]
            # A body that has arrived keeps its slot, however long the work takes.
            await asyncio.wait(tasks, timeout=0.1)
            assert order == ["a", "b"]
            ends[1].set()
            await asyncio.wait(tasks, timeout=0.1)
            assert order == ["a", "b", "c"]
            for end in ends:
                end.set()
            await asyncio.gather(*tasks)
            assert order == ["a", "b", "c", "d"]

    def test_a_slow_body_releases_its_slot_once(self) -> None:
        @run
        async def test() -> None:
            admission, order = Admission(9, 100, 2), []
            slow_end, quick_end = asyncio.Event(), asyncio.Event()

            async def slow() -> None:
                async with admission.receive_slot():
                    await slow_end.wait()

            slow_tasks = [asyncio.create_task(slow()) for _ in range(2)]
            tasks = [asyncio.create_task(self.quick(admission, order, name, quick_end)) for name in "abc"]
            await asyncio.wait(tasks, timeout=0.5)
            assert order == ["a", "b"]
            slow_end.set()
            await asyncio.gather(*slow_tasks)
            await asyncio.wait(tasks, timeout=0.1)
            assert order == ["a", "b"]
            quick_end.set()
            await asyncio.gather(*tasks)
            assert order == ["a", "b", "c"]

    def test_an_error_releases_the_slot(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(9, 100, 2)
            for _ in range(3):
                with pytest.raises(KeyError):
                    async with admission.receive_slot():
                        raise KeyError
            async with admission.receive_slot(), admission.receive_slot():
                pass
