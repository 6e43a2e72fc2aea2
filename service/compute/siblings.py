"""The processes of one service: what they count together, and what one asks the others.

Each has the whole service and answers on its own; on the way of a request they share a few numbers and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

# What is counted: requests held, bytes of their bodies, connections that are closed again.
REQUESTS, BYTES, CLOSED = range(3)
KINDS = 3
ANSWER_WITHIN_S = 5.0
# The path of a Unix socket has at most 107 bytes, here with a slash and a number.
LONGEST_FOLDER = 100
PREFIX = "focal-loss-"


class Counts:
    """Whole numbers that processes which are forked from this one go on to share.

    Each process writes its own row alone, so that nothing has to be locked; what several hold is the sum.

    Args:
        processes: Rows, >= 1.
    """

    def __init__(self, processes: int = 1) -> None:
        self._numbers = memoryview(mmap.mmap(-1, processes * KINDS * 8)).cast("q")

    def add(self, process: int, kind: int, amount: int) -> None:
        """Count on in the row of a process; not from two threads at once."""
        self._numbers[process * KINDS + kind] += amount

    def of(self, process: int, kind: int) -> int:
        """What stands in the row of a process."""
        return self._numbers[process * KINDS + kind]

    def total(self, kind: int) -> int:
        """The sum over all processes."""
        return sum(self._numbers[kind::KINDS])

    def forget(self, process: int) -> None:
        """Set the row of a process that has ended to 0."""
        for kind in range(KINDS):
            self._numbers[process * KINDS + kind] = 0


class Siblings:
    """This process and the others of its service; by default there are none.

    Args:
        number: Of this process, from 0.
        counts: Of all processes.
        folder: For the sockets by which they ask each other; only this user can write there.
        processes: How many there are, >= 1.
    """

    def __init__(
        self, number: int = 0, counts: Counts | None = None, folder: Path | None = None, processes: int = 1
    ) -> None:
        self.number = number
        self.counts = counts or Counts()
        self.processes = processes
        self._folder = folder
        self._others = [folder / str(other) for other in range(processes) if other != number] if folder else []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None

    def add(self, kind: int, amount: int) -> None:
        """Count on in the row of this process; not from two threads at once."""
        self.counts.add(self.number, kind, amount)

    def of(self, kind: int) -> int:
        """What this process has counted."""
        return self.counts.of(self.number, kind)

    def total(self, kind: int) -> int:
        """What all of them have."""
        return self.counts.total(kind)

    async def open(self, answer: Callable[[Any], Any]) -> None:
        """Answer the others from here on.

        Args:
            answer: From a question to its answer, both as JSON has them; called on the event loop.
        """
        if self._folder is None:
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Who asks and leaves gets no answer; no more does who asks what is no question.
            with closing(writer), suppress(ConnectionError, ValueError):
                writer.write(json.dumps(answer(json.loads(await reader.read()))).encode())
                await writer.drain()

        self._loop = asyncio.get_running_loop()
        path = self._folder / str(self.number)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(serve, path)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    def remove_sockets(self) -> None:
        """Remove the folder of the sockets, where nobody else is left to do it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def ask(self, question: Any) -> list[Any]:
        """What the others answer; one that ends, begins or does not answer in time is left out."""
        answers = await asyncio.gather(*(_asked(other, question) for other in self._others), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, OSError | ValueError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def ask_from_thread(self, question: Any) -> list[Any]:
        """The same from another thread than the event loop's, which it waits for."""
        if self._loop is None:
            return []
        asked = asyncio.run_coroutine_threadsafe(self.ask(question), self._loop)
        try:
            return asked.result(2 * ANSWER_WITHIN_S)
        except TimeoutError:
            # The loop waits for this thread, at its end.
            return []


def folder_for_sockets() -> Path:
    """A new folder in which only this user can write, with a path that is short enough for sockets.

    Raises:
        OSError: None can be made.
    """
    longest = LONGEST_FOLDER - len(f"/{PREFIX}12345678")
    short = len(os.fsencode(tempfile.gettempdir())) <= longest
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=None if short else "/tmp"))


async def _asked(path: Path, question: Any) -> Any:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(json.dumps(question).encode())
            writer.write_eof()
            return json.loads(await reader.read())
        finally:
            writer.close()
