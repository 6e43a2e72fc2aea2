"""Received bytes, on their way from the kernel to the parser or into the buffer of a body."""

from __future__ import annotations

import asyncio
from typing import Protocol

NOTHING = memoryview(b"")
# Size of a read while headers are expected: the parser copies these bytes.
HEADERS_READ_BYTES = 16 * 1024
SCRATCH_BYTES = 256 * 1024
# Shared by all connections of the process: bytes are parsed before the loop reads from another connection.
SCRATCH = memoryview(bytearray(SCRATCH_BYTES))


class Receiver(Protocol):
    """The protocol of a connection, as its `Reader` calls it."""

    loop: asyncio.AbstractEventLoop

    def data_received(self, data: bytes) -> None:
        """Parse bytes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""

    def eof_received(self) -> bool:
        """True to keep the connection open."""

    def pause_writing(self) -> None:
        """Write no more for now."""

    def resume_writing(self) -> None:
        """Write again."""

    def in_body(self) -> bool:
        """True if the next bytes belong to a body."""

    def body_received(self) -> None:
        """The memory given to `Reader.fill` is full."""


class Reader(asyncio.BufferedProtocol):
    """Gives the transport the memory into which the kernel writes received bytes.

    A separate class because uvicorn's protocol is an `asyncio.Protocol`, which receives bytes objects.

    Args:
        receiver: The protocol of this connection.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._unfilled = NOTHING
        self._filled: asyncio.Future[bool]

    def fill(self, unfilled: memoryview) -> asyncio.Future[bool]:
        """Receive into this memory until it is full; the result is False if the client disconnects before that."""
        self._unfilled = unfilled
        # False and no exception: its traceback would keep the body in memory until the next garbage collection.
        self._filled = self._receiver.loop.create_future()
        return self._filled

    @property
    def num_missing(self) -> int:
        """Bytes that are missing until the memory is full."""
        return len(self._unfilled)

    def stop(self) -> None:
        """Receive into the scratch buffer again."""
        # An empty slice would keep the whole body in memory.
        self._unfilled = NOTHING

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._unfilled:
            return self._unfilled
        return SCRATCH if self._receiver.in_body() else SCRATCH[:HEADERS_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._unfilled:
            self._receiver.data_received(bytes(SCRATCH[:nbytes]))
            return
        self._unfilled = self._unfilled[nbytes:]
        if not self._unfilled:
            self._end(filled=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)
        if self._unfilled:
            self._end(filled=False)

    def eof_received(self) -> bool:
        return self._receiver.eof_received()

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()

    def _end(self, *, filled: bool) -> None:
        self.stop()
        if filled:
            self._receiver.body_received()
        if not self._filled.done():
            self._filled.set_result(filled)
