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


async def hold(
    admission: Admission, name: str, order: list[str], end: asyncio.Event, num_bytes: int = 0, client: str = ""
) -> None:
    """Take a place, note the name, and keep the place until `end`."""
    async with admission.place(num_bytes, client):
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


class TestShares:
    """One client holds three quarters of the places and of the bytes; what it wants beyond that waits aside."""

    def test_another_client_finds_a_place(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(8, 100, 1), [], asyncio.Event()
            many = [asyncio.create_task(hold(admission, "many", order, end, client="a")) for _ in range(20)]
            await run_tasks()
            assert order == ["many"] * 6
            others = [asyncio.create_task(hold(admission, name, order, end, client=name)) for name in "bc"]
            await run_tasks()
            assert order == ["many"] * 6 + ["b", "c"]
            end.set()
            await asyncio.gather(*many, *others)
            assert (admission.requests, admission.num_bytes, len(order)) == (0, 0, 22)

    @pytest.mark.parametrize("client", ["a", ""])
    def test_a_single_place_is_not_shared(self, client: str) -> None:
        @run
        async def test() -> None:
            for places in (1, 2, 3):
                admission, order, end = Admission(places, 100, 1), [], asyncio.Event()
                tasks = [asyncio.create_task(hold(admission, "x", order, end, client=client)) for _ in range(places)]
                await run_tasks()
                assert len(order) == places
                end.set()
                await asyncio.gather(*tasks)

    def test_requests_beyond_the_share_do_not_delay_others(self) -> None:
        @run
        async def test() -> None:
            admission, order, ends = Admission(4, 100, 1), [], [asyncio.Event() for _ in range(9)]
            names = ["a0", "a1", "a2", "b0", "a3", "a4", "b1", "c0", "b2"]
            tasks = [
                asyncio.create_task(hold(admission, name, order, ends[number], client=name[0]))
                for number, name in enumerate(names)
            ]
            await run_tasks()
            assert order == ["a0", "a1", "a2", "b0"]
            # The place of b0 goes to b1, since a has its share.
            ends[3].set()
            await run_tasks()
            assert order[4:] == ["b1"]
            ends[0].set()
            await run_tasks()
            # a3 was aside, so it waits behind c0 and b2.
            assert order[5:] == ["c0"]
            for end in ends:
                end.set()
            await asyncio.gather(*tasks)
            assert order[6:] == ["b2", "a3", "a4"]

    def test_the_bytes_of_a_client_are_bounded_unless_it_is_alone(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(9, 100, 1), [], asyncio.Event()
            tasks = [asyncio.create_task(hold(admission, name, order, end, 50, name[0])) for name in ("a0", "a1", "b0")]
            await run_tasks()
            assert order == ["a0", "b0"]
            end.set()
            await asyncio.gather(*tasks)
            async with admission.place(90, "a"):
                assert admission.num_bytes == 90

    def test_429_names_the_share_and_leaves_nothing_behind(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(8, 100, 1), [], asyncio.Event()
            tasks = [asyncio.create_task(hold(admission, "a", order, end, client="a")) for _ in range(8)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            await asyncio.sleep(0.05)
            failed = [task.exception() for task in tasks if task.done()]
            assert len(failed) == 2
            assert "6 of 6 requests and 0 of 75 bytes for this client" in str(failed[0])
            end.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with admission.place(0, "a"):
                assert admission.requests == 1
            assert admission._shares == {}

    @given(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(0, 4), st.booleans()),
            min_size=1,
            max_size=30,
        )
    )
    def test_all_are_admitted_in_the_end_and_the_shares_hold(self, requests: list[tuple[str, int, int, bool]]) -> None:
        @run
        async def test() -> None:
            admission = Admission(4, 100, 1)
            held = dict.fromkeys("ab", 0)

            async def request(client: str, num_bytes: int, steps: int) -> None:
                async with admission.place(num_bytes, client):
                    held[client] += 1
                    try:
                        for _ in range(steps):
                            assert held[client] <= 3
                            assert admission.num_bytes <= 100
                            await asyncio.sleep(0)
                    finally:
                        held[client] -= 1

            tasks = [asyncio.create_task(request(*arguments[:3])) for arguments in requests]
            await asyncio.sleep(0)
            for task, (*_, cancelled) in zip(tasks, requests, strict=True):
                if cancelled:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not [task for task in tasks if not task.cancelled() and task.exception()]
            assert (admission.requests, admission.num_bytes, admission._shares) == (0, 0, {})


class TestReplies:
    def test_bytes_stay_when_the_place_is_free(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(1, 100, 1)
            place = admission.place(client="a")
            await place.enter(40)
            place.hold(10)
            place.free()
            assert (admission.requests, admission.num_bytes) == (0, 50)
            async with admission.place(50):
                assert admission.requests == 1
            place.leave()
            place.leave()
            assert (admission.requests, admission.num_bytes) == (0, 0)

    def test_a_reply_is_never_refused_but_others_wait_for_it(self) -> None:
        @run
        async def test() -> None:
            admission, order, end = Admission(9, 100, 1), [], asyncio.Event()
            place = admission.place()
            place.hold_reply(500)
            waiting = asyncio.create_task(hold(admission, "waiting", order, end, 1))
            await run_tasks()
            assert (order, admission.requests, admission.num_bytes) == ([], 0, 500)
            place.leave()
            end.set()
            await waiting
            assert (admission.requests, admission.num_bytes) == (0, 0)

    def test_bytes_of_a_place_that_was_left_do_not_count(self) -> None:
        @run
        async def test() -> None:
            admission = Admission(9, 100, 1)
            async with admission.place() as place:
                pass
            place.hold(50)
            assert admission.num_bytes == 0


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
