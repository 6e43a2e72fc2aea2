"""uvicorn's HTTP/1.1 protocol with what it lacks: limits of size and time of a request's head, our error shape, and a
way for a body from the socket into the application's own buffer.

uvicorn's httptools protocol takes a head of any size and waits for it for ever (uvicorn issue 157), answers what
is not HTTP in plain text, and copies a body four times before the application has it.
"""

from __future__ import annotations

import asyncio
import http
import math
import secrets
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.http.problems import problem_response
from service.errors import DecodeError, HeadTimeoutError, HeadTooLargeError, LossServiceError
from service.server.timer import Timer

Refusal = Callable[[bytes, bytes, list[tuple[bytes, bytes]]], tuple[LossServiceError, str] | None]
Wait = Callable[[Callable[[], None]], None]
AfterAnswer = Callable[[bytes, Callable[[], None]], bool]

NOTHING = memoryview(b"")
# What comes with a head is copied on its way through the parser.
HEAD_READ_BYTES = 16 * 1024
SCRATCH_BYTES = 256 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Subclasses set what stands here without a value.

    Args:
        max_head_bytes: Bytes of request line and headers.
        head_timeout_s: Seconds for them to arrive, from the connection or from their first byte.
        scratch: Where heads are received, and what goes through the parser; shared by all connections of a loop, since
            what is received there is used up at once.
        on_lost: Called when the connection is closed.
        refusal: From method, target and headers of a request to what it is refused with, and the request's id, before
            anything is made of it; or None.
        wait_for_place: Called after a refusal with what lets the connection go on; until then nothing is read from it.
        after_answer: The same after an answer, with the request's target; whether nothing is to be read until then.
    """

    max_head_bytes: int
    head_timeout_s: float
    scratch: memoryview
    on_lost: Callable[[], None]
    refusal: Refusal
    wait_for_place: Wait
    after_answer: AfterAnswer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        self._head_timer = Timer(self.loop, self._head_is_late)
        self._idle_timer = Timer(self.loop, self.timeout_keep_alive_handler)
        self._reader = _Reader(self, self.scratch)
        # The bytes that a refused request still has to come; chunks come without a number.
        self._refused_bytes: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is awaited from here on."""
        super().connection_made(transport)
        transport.set_protocol(self._reader)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """No head is awaited any more."""
        super().connection_lost(exc)
        self._head_timer.end()
        self._idle_timer.end()
        # It leads back here by its extension.
        self.scope = None  # type: ignore[assignment]
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Count what arrives while a head is incomplete."""
        arriving, before = self._head_bytes is not None, self.cycle
        super().data_received(data)
        if self._refused_bytes is not None and self._refused_bytes < math.inf:
            self._reader.skip(int(self._refused_bytes))
        if self.cycle is not before:
            if self.cycle.more_body:
                # The rest of the body stays where it is until the application asks for it.
                self.flow.pause_reading()
        elif arriving and self._head_bytes is not None:
            # All of it is head, still incomplete; a complete one has been counted when its end came.
            self._head_bytes += len(data)
            self._check_head_size()

    def on_message_begin(self) -> None:
        """A head begins, on a kept connection perhaps long after the last one."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there: the request starts unless it is too large."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._head_arrived()
        idle = self.cycle is None or self.cycle.response_complete
        if size > self.max_head_bytes:
            self._refuse(self._too_large())
        elif idle and (refused := self.refusal(self.parser.get_method(), self.url, self.headers)):
            self._refuse_and_go_on(*refused)
        else:
            super().on_headers_complete()
            self.cycle.transport = _HeadWithBody(self.transport, self.loop)  # type: ignore[assignment]
            # Not the cycle itself: it holds the scope, and what goes round in a circle waits for the collector.
            extensions: dict[str, Any] = {"receive_into": partial(self._receive_into, weakref.ref(self.cycle))}
            self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """A part of a body; of a refused one only its length counts."""
        if self._refused_bytes is None:
            super().on_body(body)
        else:
            self._refused_bytes -= len(body)

    def on_message_complete(self) -> None:
        """All of a request has come."""
        if self._refused_bytes is None:
            super().on_message_complete()
            if self.cycle.response_complete:
                # Of who was answered before, uvicorn would wait for a body for ever.
                self.cycle.more_body = False
        else:
            self._refused_bytes = None

    def on_response_complete(self) -> None:
        """uvicorn's, but that its timer is one for all requests of the connection, and the next may have to wait."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_timer.set(self.timeout_keep_alive)
            if not self.in_body() and self.after_answer(self.url, self._go_on):
                self.flow.pause_reading()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_timer.unset()

    def in_body(self) -> bool:
        """Whether what arrives next belongs to a body."""
        return self.cycle is not None and self.cycle.more_body

    async def _receive_into(
        self, cycle_ref: weakref.ref[RequestResponseCycle], body: memoryview, timeout_s: float | None = None
    ) -> int:
        """The ASGI extension `receive_into`: the whole body at once, its bulk written by the kernel where it is wanted.

        Args:
            cycle_ref: The request, nothing of whose body has been asked for by `receive`.
            body: Writable bytes, as many as the request's `Content-Length` says.
            timeout_s: Seconds to wait for what has not come with the head.

        Returns:
            How many bytes came; fewer than there is room for only where there are no more.

        Raises:
            ClientDisconnect: The client left.
            TimeoutError: The rest did not come in time.
        """
        cycle = cycle_ref()
        if cycle is None:
            raise ClientDisconnect
        if cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if cycle.disconnected or cycle.response_complete:
            raise ClientDisconnect
        came = len(cycle.body)
        body[:came] = cycle.body
        cycle.body = bytearray()
        cycle.message_event.clear()
        if not cycle.more_body:
            return came
        rest = self._reader.fill(body[came:])
        self.flow.resume_reading()
        try:
            async with asyncio.timeout(timeout_s):
                if not await rest:
                    raise ClientDisconnect
        except (asyncio.CancelledError, TimeoutError):
            self._abandon(cycle)
            raise
        return len(body)

    def body_received(self) -> None:
        """The rest of the body went past the parser, which still waits for it: a new one takes the next request."""
        if self._refused_bytes is None:
            self.cycle.more_body = False
        self._refused_bytes = None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _abandon(self, cycle: RequestResponseCycle) -> None:
        """Nobody wants the rest of a body, and where it ends is not known any more: its reply is the last."""
        if cycle.more_body:
            self._reader.stop()
            self.flow.pause_reading()
            cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer to what is not HTTP, as a problem; none where another answer has closed the connection."""
        if not self.transport.is_closing():
            self._refuse(DecodeError(msg))

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer.set(self.head_timeout_s)

    def _head_arrived(self) -> None:
        self._head_bytes = None
        self._head_timer.unset()

    def _head_is_late(self) -> None:
        self._refuse(HeadTimeoutError(f"the request's head did not arrive in {self.head_timeout_s:g} s"))

    def _check_head_size(self) -> None:
        if self._head_bytes is not None and self._head_bytes > self.max_head_bytes:
            self._head_arrived()
            self._refuse(self._too_large())

    def _too_large(self) -> HeadTooLargeError:
        return HeadTooLargeError(
            f"request line and headers have more than {self.max_head_bytes} bytes (max_head_bytes)"
        )

    def _refuse(self, error: LossServiceError, request_id: str | None = None) -> None:
        self._refused_bytes = math.inf
        self.transport.write(self._problem(error, request_id or secrets.token_hex(16), b"connection: close\r\n"))
        self.transport.close()

    def _refuse_and_go_on(self, error: LossServiceError, request_id: str) -> None:
        """Answer at once, and take this one's body and the next request when there may be a place for it."""
        if self.expect_100_continue or not self.parser.should_keep_alive():
            # Whether a body comes after this answer is for the client to say.
            self._refuse(error, request_id)
            return
        self.transport.write(self._problem(error, request_id))
        length = dict(self.headers).get(b"content-length")
        self._refused_bytes = math.inf if length is None else int(length)
        self._idle_timer.set(self.timeout_keep_alive)
        self.flow.pause_reading()
        self.wait_for_place(self._go_on)

    def _go_on(self) -> None:
        # A request that came in one piece with the refused one says itself when its body is wanted.
        if not self.in_body() and not self.transport.is_closing():
            self.flow.resume_reading()

    def _problem(self, error: LossServiceError, request_id: str, more: bytes = b"") -> bytes:
        head, body = _rendered(error, getattr(self, "url", b"").decode("latin-1").partition("?")[0])
        default = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        return b"%b%b%bx-request-id: %b\r\n\r\n%b" % (head, default, more, request_id.encode(), body)


@lru_cache(maxsize=16)
def _rendered(error: LossServiceError, path: str) -> tuple[bytes, bytes]:
    """Status and headers, without the end, and the body; made once for an error that is given again and again."""
    reply = problem_response(error, path)
    status = f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\n".encode()
    return status + b"".join(b"%b: %b\r\n" % header for header in reply.raw_headers), bytes(reply.body)


class _HeadWithBody:
    """A transport that sends a reply's head and the first of its body together: one packet, one call of the kernel.

    Args:
        transport: Of the connection.
        loop: At whose next turn a head is sent whose body has not come.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send it, or keep it where it is a head."""
        if self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection when all is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class _Reader(asyncio.BufferedProtocol):
    """Between the transport and the HTTP protocol: says where the kernel writes what arrives.

    Not the HTTP protocol itself, since uvicorn's is an `asyncio.Protocol`, and such a one is given bytes.

    Args:
        protocol: Of this connection.
        scratch: Where the HTTP protocol's part goes.
    """

    def __init__(self, protocol: BoundedHttpProtocol, scratch: memoryview) -> None:
        self._protocol = protocol
        self._scratch = scratch
        self._rest = NOTHING
        self._skipped = 0
        self._filled: asyncio.Future[bool]

    def fill(self, rest: memoryview) -> asyncio.Future[bool]:
        """Have the kernel write here until it is full; whether it has been filled, or the client left."""
        self._rest = rest
        # No exception for a client that leaves: by its traceback it would keep the body until the next collection.
        self._filled = self._protocol.loop.create_future()
        return self._filled

    def stop(self) -> None:
        """Have the kernel write to the scratch buffer again."""
        self._rest = NOTHING

    def skip(self, count: int) -> None:
        """Have the kernel write so many bytes where nobody reads them."""
        self._skipped = count

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._rest:
            return self._rest
        if self._skipped:
            return self._scratch[: self._skipped]
        return self._scratch if self._protocol.in_body() else self._scratch[:HEAD_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if self._skipped:
            self._skipped -= nbytes
            if not self._skipped:
                self._protocol.body_received()
            return
        if not self._rest:
            self._protocol.data_received(bytes(self._scratch[:nbytes]))
            return
        self._rest = self._rest[nbytes:]
        if not self._rest:
            self._end(filled=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        if self._rest:
            self._end(filled=False)

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _end(self, *, filled: bool) -> None:
        # An empty view would keep the whole body.
        self._rest = NOTHING
        if filled:
            self._protocol.body_received()
        if not self._filled.done():
            self._filled.set_result(filled)


def bounded_protocol(
    *,
    max_head_bytes: int,
    head_timeout_s: float,
    on_lost: Callable[[], None] = lambda: None,
    refusal: Refusal = lambda method, target, headers: None,
    wait_for_place: Wait = lambda go_on: go_on(),
    after_answer: AfterAnswer = lambda target, go_on: False,
) -> type[BoundedHttpProtocol]:
    """The protocol class with its values, as uvicorn's `http` takes it."""
    members = {
        "max_head_bytes": max_head_bytes,
        "head_timeout_s": head_timeout_s,
        "scratch": memoryview(bytearray(SCRATCH_BYTES)),
        "on_lost": staticmethod(on_lost),
        "refusal": staticmethod(refusal),
        "wait_for_place": staticmethod(wait_for_place),
        "after_answer": staticmethod(after_answer),
    }
    return type("LimitedHttpProtocol", (BoundedHttpProtocol,), members)
