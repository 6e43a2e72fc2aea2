"""Worker threads for an event loop.

`run_in_executor` makes two futures and takes some ten locks for each piece of work; with one in a few hundred
microseconds that is a fifth of the requests that a process can answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """Threads that do what an event loop must not wait for; what is asked for first is begun first.

    Args:
        count: Of the threads, >= 1.
        name: What their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._threads = [Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work that are asked for and not begun."""
        return self._jobs.qsize()

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises, done on one of the threads; not begun if nobody waits for it by then.

        Raises:
            RuntimeError: They are closed.
        """
        return await self._asked(work)

    def close(self) -> None:
        """Wait for all work asked for and end the threads."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _asked(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError("no work is taken after the shutdown")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(partial(_do, work, loop, future))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # Nothing of it stays alive, a request's body perhaps, while the thread waits for the next.
            del job


def _do(work: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    if future.cancelled():
        return
    settle: Callable[[Any], None]
    outcome: object
    try:
        settle, outcome = future.set_result, work()
    except BaseException as err:
        settle, outcome = future.set_exception, err
    # A closed loop has nobody to be told.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, future, settle, outcome)
    # The traceback of an error holds this frame. If the frame held the error, it and the body it complains of would
    # live until the collector comes.
    del future, settle, outcome


def _settle(future: asyncio.Future[T], settle: Callable[[Any], None], outcome: object) -> None:
    if not future.cancelled():
        settle(outcome)
