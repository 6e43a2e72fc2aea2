"""A fake transport that delivers bytes in pieces of any size to `BodyProtocol` and an application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools
import numpy as np
import orjson
from hypothesis import strategies as st
from uvicorn.server import ServerState

from service.server.protocol import BodyConfig, BodyProtocol
from service.server.reader import HEADERS_READ_BYTES, SCRATCH_BYTES
from service.server.unsent import UnsentBytes

LARGE = 3 * SCRATCH_BYTES + 7
MAX_HEAD_BYTES = 4096
HEAD_TIMEOUT_S = 60.0
MAX_CONNECTIONS = 3
WRITE_TIMEOUT_S = 20.0
MIN_BYTES_PER_S = 100
HIGH_WATER_BYTES, LOW_WATER_BYTES = 64 * 1024, 16 * 1024

SIZES = st.one_of(
    st.sampled_from(
        [0, 1, HEADERS_READ_BYTES - 1, HEADERS_READ_BYTES, HEADERS_READ_BYTES + 1, SCRATCH_BYTES + 1, LARGE]
    ),
    st.integers(0, 100),
    st.integers(0, LARGE),
)

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire(asyncio.Transport):
    """A fake of the event loop's transport: while reading is paused, sent bytes wait in the kernel.

    Attributes:
        kernel: Bytes that the client has sent and the protocol has not read.
        written: Bytes that the protocol has sent, including those after `close`.
        largest_read: Largest number of bytes of one read.
        unsent: Bytes of `written` that the client has not taken; see `is_read`.
        is_read: True for a client that takes every reply at once.
        aborted: True if the protocol has aborted the connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.kernel = bytearray()
        self.written = bytearray()
        self.paused = self.closed = self.half_closed = False
        self.largest_read = self.unsent = 0
        self.is_read, self.aborted = True, False

    def send(self, data: bytes) -> None:
        """Send bytes as the client."""
        self.kernel += data
        self.deliver()

    def shut_down(self) -> None:
        """Close the sending side of the client."""
        self.half_closed = True
        self.deliver()

    def lose(self) -> None:
        """Close the connection as the client."""
        self.closed = True
        self.protocol.connection_lost(None)

    def deliver(self) -> None:
        while self.kernel and not self.paused and not self.closed:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(self.kernel))
            self.largest_read = max(self.largest_read, count)
            buffer[:count] = self.kernel[:count]
            del self.kernel[:count]
            del buffer
            self.protocol.buffer_updated(count)
        if self.half_closed and not self.kernel and not self.paused and not self.closed:
            self.half_closed = False
            if not self.protocol.eof_received():
                self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        # The event loop, too, reads only after the current call.
        asyncio.get_running_loop().call_soon(self.deliver)

    def write(self, data: Any) -> None:
        self.written += data
        if not self.is_read:
            self._set_unsent(self.unsent + len(data))

    def take(self, count: int) -> None:
        """Take bytes of the replies as the client."""
        self._set_unsent(max(0, self.unsent - count))

    def _set_unsent(self, unsent: int) -> None:
        before, self.unsent = self.unsent, unsent
        if self.closed and before and not unsent:
            self._lose_soon()
        elif before <= HIGH_WATER_BYTES < unsent:
            self.protocol.pause_writing()
        elif unsent <= LOW_WATER_BYTES < before:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = self.closed = True
        self._lose_soon()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.unsent:
                self._lose_soon()

    def _lose_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Replies:
    """Replies, parsed by the client side of the same library."""

    def __init__(self, written: bytes) -> None:
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(written)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")
        self.headers.append({})

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[-1][name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())


class Timer:
    """A call that a `TimedLoop` has scheduled."""

    def __init__(self, timers: list[Timer], due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self._timers = timers
        timers.append(self)

    def cancel(self) -> None:
        if self in self._timers:
            self._timers.remove(self)


class TimedLoop:
    """The running event loop, except that time passes only by `pass_time`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 0.0
        self.timers: list[Timer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self.now

    @property
    def timeouts(self) -> list[Timer]:
        """The timers, without the checks of unsent bytes."""
        return [timer for timer in self.timers if getattr(timer.call, "__func__", None) is not UnsentBytes._check]

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return Timer(self.timers, self.now + delay, call)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.due <= end]:
            timer = min(due, key=lambda timer: timer.due)
            self.now = timer.due
            timer.cancel()
            timer.call()
        self.now = end


def connected(app: App, *, loop: Any = None, state: ServerState | None = None) -> tuple[Wire, BodyProtocol]:
    """A new connection to an application.

    Args:
        app: Called for each request.
        loop: Event loop; by default the running one.
        state: The server, which knows its connections; by default a new one.
    """
    config = BodyConfig(
        cast(Any, app),
        lifespan="off",
        log_config=None,
        ws="none",
        max_head_bytes=MAX_HEAD_BYTES,
        head_timeout_s=HEAD_TIMEOUT_S,
        max_connections=MAX_CONNECTIONS,
        write_timeout_s=WRITE_TIMEOUT_S,
        min_bytes_per_s=MIN_BYTES_PER_S,
    )
    loop = loop or asyncio.get_running_loop()
    protocol = BodyProtocol(config=config, server_state=state or ServerState(), app_state={}, _loop=loop)
    wire = Wire()
    protocol.connection_made(wire)
    return wire, protocol


def replies(wire: Wire) -> Replies:
    return Replies(bytes(wire.written))


def check_refused(wire: Wire, status: int, code: str) -> None:
    """Check that the only reply is this problem, and that the connection is closed."""
    received = replies(wire)
    assert received.statuses == [status]
    assert orjson.loads(received.bodies[0])["code"] == code
    assert received.headers[0][b"connection"] == b"close"
    assert received.headers[0][b"content-type"] == b"application/problem+json"
    assert len(received.headers[0][b"x-request-id"]) == 32
    assert received.headers[0][b"x-content-type-options"] == b"nosniff"
    assert wire.closed


async def settled() -> None:
    """Run all tasks that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


def length_of(scope: Any) -> int | None:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), None)


async def body_of(scope: Any, receive: Any) -> bytes:
    """The body of a request, received by the extension if its length is declared."""
    length = length_of(scope)
    if length is not None:
        body = np.empty(length, np.uint8).data
        count = await scope["extensions"]["receive_into"](body)
        return bytes(body[:count])
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def answer(send: Any, content: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the body."""
    await answer(send, await body_of(scope, receive))


async def echo_or_empty(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the body, and a GET with an empty reply."""
    await (answer(send, b"") if scope["method"] == "GET" else echo(scope, receive, send))


def request(body: bytes, *headers: str) -> bytes:
    lines = ["POST /x HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, *headers: str) -> bytes:
    lines = ["POST /x HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *headers]
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return "\r\n".join([*lines, "", ""]).encode() + sent + b"0\r\n\r\n"


def get(*headers: str) -> bytes:
    return "\r\n".join(["GET /x HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def content(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)
