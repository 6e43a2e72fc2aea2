"""What a worker thread does with work that nobody waits for, and what it keeps of work that is done."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from service.compute.threads import Workers


@pytest.fixture
def one() -> Iterator[Workers]:
    workers = Workers(1, "worker")
    yield workers
    workers.close()


def test_work_is_done_in_its_order(one: Workers) -> None:
    done: list[int] = []

    async def many() -> list[None]:
        return await asyncio.gather(*(one.run(lambda number=number: done.append(number)) for number in range(50)))

    asyncio.run(many())
    assert done == list(range(50))


def test_work_that_nobody_waits_for_is_not_begun(one: Workers) -> None:
    go_on, begun = threading.Event(), threading.Event()

    async def cancel_the_second() -> None:
        first = asyncio.ensure_future(one.run(lambda: go_on.wait(60)))
        second = asyncio.ensure_future(one.run(begun.set))
        await asyncio.sleep(0)
        second.cancel()
        go_on.set()
        assert await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await one.run(lambda: "the thread goes on") == "the thread goes on"

    asyncio.run(cancel_the_second())
    assert not begun.is_set()


def test_what_is_not_begun_waits(one: Workers) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)

    async def three() -> None:
        asked = [asyncio.ensure_future(one.run(work)) for _ in range(3)]
        await asyncio.to_thread(begun.wait, 60)
        assert one.waiting == 2
        go_on.set()
        await asyncio.gather(*asked)
        assert one.waiting == 0

    asyncio.run(three())


@pytest.mark.parametrize("fails", [False, True])
def test_the_answer_to_who_has_gone_is_dropped(one: Workers, fails: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)
        if fails:
            raise ValueError("nobody hears of it")

    async def leave_while_it_works() -> None:
        asked = asyncio.ensure_future(one.run(work))
        await asyncio.to_thread(begun.wait, 60)
        asked.cancel()

    asyncio.run(leave_while_it_works())
    go_on.set()
    assert asyncio.run(one.run(lambda: "the loop before is closed")) == "the loop before is closed"


class Body:
    """Stands for the megabytes of a request."""


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_is_kept(one: Workers, fails: bool) -> None:
    gc.disable()
    try:
        body = Body()
        gone = weakref.ref(body)

        def work(body: Body = body) -> None:
            assert not fails, repr(body)

        async def ask() -> None:
            nonlocal body, work
            try:
                await one.run(work)
            except AssertionError:
                assert fails
            del body, work
            # The thread has let go of one piece of work when it has begun the next.
            await one.run(lambda: None)

        asyncio.run(ask())
        assert gone() is None
    finally:
        gc.enable()
