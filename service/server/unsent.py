"""Replies that a client does not read."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress

# Checks in `timeout_s`.
CHECKS = 10
RESET = struct.pack("ii", 1, 0)


class UnsentBytes:
    """Aborts a connection whose client takes the bytes of replies too slowly.

    The transport keeps what the kernel does not take, and the kernel takes more only when the client has taken about a
    third of the megabytes that it has, so both are counted. Their amount is looked at now and then, also while the
    connection is closing: asyncio itself would wait for ever.

    Args:
        loop: The event loop of the transport.
        transport: The connection.
        timeout_s: Seconds in which the client has to take `min_bytes_per_s` bytes for each second, and at least one.
        min_bytes_per_s: Least rate.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, timeout_s: float, min_bytes_per_s: int
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout_s = timeout_s
        self._least = max(1.0, min_bytes_per_s * timeout_s)
        self._unsent, self._since = 0, 0.0
        self._timer = self._next_check()

    def resumed(self) -> None:
        """Start the time anew: the client has taken enough for the application to go on writing."""
        self._unsent = 0

    def stop(self) -> None:
        """End the checks: the connection is lost."""
        self._timer.cancel()

    def _abort(self) -> None:
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            # Reset it: the kernel, too, would keep what it has not sent, for minutes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def _num_unsent(self) -> int:
        """Bytes that the client has not taken; 0 if the kernel has taken all of them, whatever it has sent."""
        buffered = self._transport.get_write_buffer_size()
        return buffered + _num_in_kernel(self._transport) if buffered else 0

    def _next_check(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._timeout_s / CHECKS, self._check)

    def _check(self) -> None:
        unsent, now = self._num_unsent(), self._loop.time()
        # At first, and if the application has written more.
        if unsent > self._unsent or not unsent:
            self._unsent, self._since = unsent, now
        elif now - self._since >= self._timeout_s:
            if self._unsent - unsent < self._least:
                self._abort()
                return
            self._unsent, self._since = unsent, now
        self._timer = self._next_check()


def _num_in_kernel(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the client has not acknowledged; 0 on a system that does not tell."""
    count, connection = bytearray(struct.calcsize("i")), transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
    return int(struct.unpack("i", count)[0])
