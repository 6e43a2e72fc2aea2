"""FIFO thread pool for blocking work of an event loop.

`run_in_executor` creates two futures and takes about ten locks for each call. Small requests take a few hundred
microseconds each, so that cost a process a fifth of its requests per second.
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
    """FIFO thread pool for blocking work.

    Args:
        count: Number of threads, >= 1.
        name: Prefix of the threads' names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._threads = [Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a thread."""
        return self._jobs.qsize()

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` on a thread and return its result; skip it if the caller is cancelled before it starts.

        Raises:
            RuntimeError: The pool is closed.
            Also whatever `work` raises.
        """
        return await self._submit(work)

    def close(self) -> None:
        """Finish all submitted work and end the threads."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError("the thread pool is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(partial(_call, work, loop, future))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # While the thread waits, it must not keep this job alive, and with it a request's body.
            del job


def _call(work: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    if future.cancelled():
        return
    settle: Callable[[Any], None]
    outcome: object
    try:
        settle, outcome = future.set_result, work()
    except BaseException as err:
        settle, outcome = future.set_exception, err
    # The loop may be closed by now.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, future, settle, outcome)
    # The traceback of an error refers to this frame. If the frame referred to the error, both, and the request's body,
    # would live until the next garbage collection.
    del future, settle, outcome


def _settle(future: asyncio.Future[T], settle: Callable[[Any], None], outcome: object) -> None:
    if not future.cancelled():
        settle(outcome)
