"""The parts in which the asynchronous and the synchronous client differ, in an asynchronous and a synchronous version.

`scripts/generate_sync_client.py` replaces the asynchronous names by the synchronous ones. Both versions are
written by hand: an event loop runs a request in the background as a task and can cancel it; without an event loop a
thread runs it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")
AsyncBatches = Iterable[Any] | AsyncIterable[Any]
Batches = Iterable[Any]


class AsyncBackground(Generic[Result]):
    """Runs one function at a time as a task of the event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Future[Result] | None = None

    def start(self, function: Callable[[Argument], Awaitable[Result]], argument: Argument) -> None:
        """Call a function in the background; the result of the previous call must have been read."""
        self._task = asyncio.ensure_future(function(argument))

    async def result(self) -> Result | None:
        """Wait for the running call and return its result; None if none was started."""
        return None if self._task is None else await self._task

    def close(self) -> None:
        """Cancel the running call."""
        if self._task is not None and not self._task.done():
            self._task.cancel()


class Background(Generic[Result]):
    """Runs one function at a time in a thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loss-stream")
        self._process = os.getpid()
        self._future: Future[Result] | None = None

    def start(self, function: Callable[[Argument], Result], argument: Argument) -> None:
        """Call a function in the background; the result of the previous call must have been read."""
        self._future = self._pool.submit(function, argument)

    def result(self) -> Result | None:
        """Wait for the running call and return its result; None if none was started.

        Raises:
            RuntimeError: This is a forked process, which has no such thread.
        """
        if self._process != os.getpid():
            raise RuntimeError("a stream cannot be continued in a forked process; start another one there")
        return None if self._future is None else self._future.result()

    def close(self) -> None:
        """Wait for the running call and stop the thread."""
        self._pool.shutdown(cancel_futures=True)


async def async_enumerate(batches: AsyncBatches) -> AsyncIterator[tuple[int, Any]]:
    """`enumerate` for iterables of both kinds."""
    number = 0
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield number, batch
            number += 1
    else:
        for number, batch in enumerate(batches):
            yield number, batch


sync_enumerate = enumerate
