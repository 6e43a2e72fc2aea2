"""The thread pool: FIFO order, cancelled work, and memory of finished work."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from service.compute.threads import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(1, "worker")
    yield workers
    workers.close()


def test_work_is_done_in_fifo_order(workers: Workers) -> None:
    done: list[int] = []

    async def many() -> list[None]:
        return await asyncio.gather(*(workers.run(lambda number=number: done.append(number)) for number in range(50)))

    asyncio.run(many())
    assert done == list(range(50))


def test_cancelled_work_is_not_started(workers: Workers) -> None:
    may_finish, started = threading.Event(), threading.Event()

    async def cancel_the_second() -> None:
        first = asyncio.ensure_future(workers.run(lambda: may_finish.wait(60)))
        second = asyncio.ensure_future(workers.run(started.set))
        await asyncio.sleep(0)
        second.cancel()
        may_finish.set()
        assert await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await workers.run(lambda: "the thread continues") == "the thread continues"

    asyncio.run(cancel_the_second())
    assert not started.is_set()


def test_waiting_is_the_number_of_calls_that_have_not_started(workers: Workers) -> None:
    may_finish, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_finish.wait(60)

    async def three() -> None:
        calls = [asyncio.ensure_future(workers.run(work)) for _ in range(3)]
        await asyncio.to_thread(started.wait, 60)
        assert workers.waiting == 2
        may_finish.set()
        await asyncio.gather(*calls)
        assert workers.waiting == 0

    asyncio.run(three())


@pytest.mark.parametrize("fails", [False, True])
def test_the_result_of_a_cancelled_call_is_dropped(workers: Workers, fails: bool) -> None:
    started, may_finish = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_finish.wait(60)
        if fails:
            raise ValueError("a dropped error")

    async def cancel_while_it_works() -> None:
        call = asyncio.ensure_future(workers.run(work))
        await asyncio.to_thread(started.wait, 60)
        call.cancel()

    asyncio.run(cancel_while_it_works())
    may_finish.set()
    assert asyncio.run(workers.run(lambda: "the previous loop is closed")) == "the previous loop is closed"


class Body:
    """Represents the body of a request."""


@pytest.mark.parametrize("fails", [False, True])
def test_finished_work_is_freed_without_garbage_collection(workers: Workers, fails: bool) -> None:
    gc.disable()
    try:
        body = Body()
        gone = weakref.ref(body)

        def work(body: Body = body) -> None:
            assert not fails, repr(body)

        async def submit() -> None:
            nonlocal body, work
            try:
                await workers.run(work)
            except AssertionError:
                assert fails
            del body, work
            # When the thread starts the next call, it has released the previous one.
            await workers.run(lambda: None)

        asyncio.run(submit())
        assert gone() is None
    finally:
        gc.enable()
