"""uvicorn's httptools protocol with five additions.

- **Bodies without copies.** uvicorn copies a body four times before the application has it. Here the kernel writes most
  of it into the application's buffer (ASGI extension `receive_into`, see `service.api.http.body`).
- **Bounded headers.** uvicorn accepts request line, headers and trailers of any size and waits for them without a limit
  (uvicorn issue 157). It also takes framing that a proxy may read differently, see `service.server.framing`.
- **Ignored upgrades.** httptools stops at a request that offers an upgrade, such as `Upgrade: h2c` of the JDK's
  HttpClient, and its body would be lost. A server may ignore the offer (RFC 9110, 7.8).
- **Bounded replies.** A connection whose client does not read is aborted, see `service.server.unsent`.
- **Bounded connections.** Beyond `max_connections` only `/healthz` and `/readyz` are answered; other requests get 503.

The app works without this file (`direct_body = false`). The file relies on undocumented attributes of uvicorn, so
`pyproject.toml` caps uvicorn's version, and `tests/server/` and `tests/live/test_transport.py` test it.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
import uvicorn
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api.http.pace import InTime
from service.api.http.paths import OPEN_PATHS
from service.api.http.problems import problem_response
from service.api.http.security_headers import with_security_headers
from service.errors import (
    DecodeError,
    HeadersTimeoutError,
    HeadersTooLargeError,
    LossServiceError,
    TooManyConnectionsError,
)
from service.server.framing import framing_error
from service.server.reader import Reader
from service.server.unsent import UnsentBytes

# Paths that answer on the connections beyond `max_connections`, and how many of those there may be.
PROBES, EXTRA_CONNECTIONS = frozenset(path.encode() for path in OPEN_PATHS), 16
EXTRA_HEADERS_S = 1.0
# Bytes of chunk sizes, extensions and trailers that each byte of a chunked body allows.
FRAMING_PER_BYTE = 16
# Seconds between probes of a connection whose client has closed its sending side.
PROBE_S = 0.25
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyConfig(uvicorn.Config):
    """uvicorn's configuration with the limits of `BodyProtocol`; can be pickled for worker processes.

    Args:
        max_head_bytes: Limit of request line and headers, and of the trailers after a chunked body.
        head_timeout_s: Seconds for request line and headers to arrive, from the start of the connection or, on a
            kept-alive connection, from their first byte. Also for the rest of a body whose reply is sent.
        max_connections: Limit of the open connections of this process.
        write_timeout_s, min_bytes_per_s: Rate at which a client has to take a reply, see `UnsentBytes`.
        others: Further arguments of `uvicorn.Config`.
    """

    def __init__(
        self,
        *args: Any,
        max_head_bytes: int,
        head_timeout_s: float,
        max_connections: int,
        write_timeout_s: float,
        min_bytes_per_s: int,
        **others: Any,
    ) -> None:
        super().__init__(*args, **others)
        self.max_head_bytes = max_head_bytes
        self.head_timeout_s = head_timeout_s
        self.max_connections = max_connections
        self.write_timeout_s = write_timeout_s
        self.min_bytes_per_s = min_bytes_per_s


class BodyProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection; its `config` is a `BodyConfig`."""

    config: BodyConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = Reader(self)
        # The request whose reply is being sent; `cycle` is the last of the pipelined ones.
        self._running: RequestResponseCycle | None = None
        self._unsent: UnsentBytes
        self._in_headers = False
        # Bytes of unfinished headers, or of the framing of a body beyond what the body allows.
        self._pending_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._refused = self._is_extra = False
        # True while the parser is fed the framing of a body instead of bytes from the client.
        self._replaying = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the headers of the first request."""
        super().connection_made(transport)
        transport.set_protocol(self._reader)
        self._unsent = UnsentBytes(self.loop, transport, self.config.write_timeout_s, self.config.min_bytes_per_s)
        extra = len(self.connections) - self.config.max_connections
        self._is_extra = extra > 0
        if extra > EXTRA_CONNECTIONS:
            transport.abort()
        self._header_timer = self._new_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers and break the reference cycles, so that memory is freed without garbage collection."""
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells only the last of the pipelined requests.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_header_timer()
        self._unsent.stop()
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self.pipeline.clear()
        self.scope = self.cycle = self._reader = self._running = None  # type: ignore[assignment]

    def eof_received(self) -> bool:  # type: ignore[override]
        """True keeps the connection open for a client that has closed its sending side but waits for a reply."""
        if not self._reply_is_due():
            return False
        self.cycle.keep_alive = False
        self._probe_timer = self.loop.call_later(PROBE_S, self._probe)
        return True

    def _probe(self) -> None:
        """Find out if a client that has closed its sending side still wants the reply.

        A client that has closed its socket looks the same, but its kernel resets the connection when something arrives.
        A client that waits for the reply has to skip interim responses (RFC 9110, 15.2).
        """
        cycle = self.cycle
        if self.pipeline or cycle.response_started or cycle.scope["http_version"] != "1.1":
            return
        self.transport.write(CONTINUE)
        self._probe_timer = self.loop.call_later(PROBE_S, self._probe)

    def resume_writing(self) -> None:
        """Let the application write: the transport has sent enough."""
        self._unsent.resumed()
        super().resume_writing()

    def _reply_is_due(self) -> bool:
        """True if the last request has arrived completely and its reply is not complete."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    # The parser

    def data_received(self, data: bytes) -> None:
        """Feed the parser, limit unfinished headers and trailers, and leave an unread body in the kernel."""
        if self._refused:
            return
        before = self.cycle
        self._unset_keepalive_if_required()
        self._pending_bytes += len(data)
        self._feed(memoryview(data))
        if self._pending_bytes > self.config.max_head_bytes:
            self._refuse(self._too_large())
        if self._refused:
            return
        if self.cycle is not before and self.cycle.more_body:
            # The unread part of the body stays in the kernel until the application reads it.
            self.flow.pause_reading()
        if self._in_headers:
            self._header_timer = self._header_timer or self._new_header_timer()
        elif self.cycle is not None and self.cycle.response_complete:
            if self.cycle.more_body:
                # The rest of a body, which the application does not read.
                self._header_timer = self._header_timer or self._new_header_timer()
            # uvicorn sets this timer only with a reply, but the body of an answered request may arrive after that.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _feed(self, data: memoryview) -> None:
        while data and not self._refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            except httptools.HttpParserError:
                self._refuse(DecodeError("Invalid HTTP request received."))
            else:
                return

    def on_message_begin(self) -> None:
        """Restart the header timeout: on a kept-alive connection, a request may begin long after the previous one."""
        if not self._replaying:
            super().on_message_begin()
            self._stop_header_timer()
            self._in_headers = True

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; drop trailers after a chunked body (RFC 9110, 6.5.1)."""
        if self._in_headers:
            # httptools leaves the whitespace behind a value.
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request unless its headers are too large, or its framing is not clear."""
        if self._replaying:
            return
        self._stop_header_timer()
        self._in_headers, self._pending_bytes = False, 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        error = framing_error(self.parser.get_http_version(), self.headers)
        if size > self.config.max_head_bytes:
            error = self._too_large()
        elif self._is_extra and self.url.partition(b"?")[0] not in PROBES:
            error = self._too_many_connections()
        if error is not None:
            self._refuse(error)
        elif not self._refused:
            super().on_headers_complete()
            if self._is_extra:
                self.cycle.keep_alive = False
            # A weak reference: the cycle holds the scope, and a reference cycle would delay the release of its body.
            receive_into = partial(self._receive_into, weakref.ref(self.cycle))
            self.scope["extensions"] = {"receive_into": receive_into}  # type: ignore[dict-item]

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = max(0, self._pending_bytes - len(body) * (1 + FRAMING_PER_BYTE))
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete, unless httptools skipped it for an upgrade."""
        if self._refused or self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._stop_header_timer()
        self._pending_bytes = 0
        # If the response finished before the body, uvicorn would keep waiting for the body.
        self.cycle.more_body = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _ignore_upgrade(self) -> None:
        """Continue as if no upgrade was offered: a new parser gets the headers that frame the body, then the body."""
        framing = [header for header in self.headers if header[0] in (b"content-length", b"transfer-encoding")]
        lines = b"".join(b"%b: %b\r\n" % header for header in framing)
        self._new_parser()
        self._replaying = True
        self._feed(memoryview(b"POST / HTTP/1.1\r\n" + lines + b"\r\n"))
        self._replaying = False

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    # Bodies

    def in_body(self) -> bool:
        """True if the next bytes belong to a body."""
        return self.cycle is not None and self.cycle.more_body

    async def _receive_into(
        self,
        cycle_ref: weakref.ref[RequestResponseCycle],
        body: memoryview,
        deadline: Callable[[int], float | None] = lambda received: None,
    ) -> int:
        """The ASGI extension `receive_into`: receive a whole body, most of it written by the kernel into `body`.

        Args:
            cycle_ref: The request; the application has not called `receive` for it.
            body: Writable bytes, as many as `Content-Length` declares.
            deadline: Returns the time of the event loop by which more bytes have to arrive, or None; called with the
                number of bytes that have arrived.

        Returns:
            Number of bytes received; fewer than `len(body)` only if the request has fewer.

        Raises:
            ClientDisconnect: The client closed the connection.
            TimeoutError: The body did not arrive in time.
        """
        cycle = cycle_ref()
        if cycle is None:
            raise ClientDisconnect
        if cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(CONTINUE)
            cycle.waiting_for_100_continue = False
        if cycle.disconnected or cycle.response_complete:
            raise ClientDisconnect
        arrived = len(cycle.body)
        body[:arrived] = cycle.body
        cycle.body = bytearray()
        cycle.message_event.clear()
        if not cycle.more_body:
            return arrived
        reader = self._reader
        filled = reader.fill(body[arrived:])
        self.flow.resume_reading()
        try:
            async with InTime(deadline, lambda: len(body) - reader.num_missing):
                if not await filled:
                    raise ClientDisconnect
        except (asyncio.CancelledError, TimeoutError):
            if cycle.more_body and not cycle.disconnected:
                # Close after this reply: the rest of the body is unread, so the next request cannot be found.
                reader.stop()
                self.flow.pause_reading()
                cycle.keep_alive = False
            raise
        return len(body)

    def body_received(self) -> None:
        """The reader has received the body. The parser still expects it, so a new parser reads the next request."""
        self.cycle.more_body = False
        self._new_parser()

    # Bounded headers

    def _new_header_timer(self) -> asyncio.TimerHandle:
        timeout_s = self.config.head_timeout_s
        return self.loop.call_later(min(timeout_s, EXTRA_HEADERS_S) if self._is_extra else timeout_s, self._are_late)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _are_late(self) -> None:
        self._refuse(HeadersTimeoutError(f"the headers did not arrive in {self.config.head_timeout_s:g} s"))

    def _too_large(self) -> HeadersTooLargeError:
        return HeadersTooLargeError(
            f"request line and headers have more than {self.config.max_head_bytes} bytes (max_head_bytes)"
        )

    def _too_many_connections(self) -> TooManyConnectionsError:
        return TooManyConnectionsError(
            f"this process has more than {self.config.max_connections} connections (max_connections)",
            headers={"Retry-After": "1"},
        )

    def _refuse(self, error: LossServiceError) -> None:
        """Reply with a problem, close the connection and read no more.

        Clients match replies to requests by order. So if the reply to an earlier request is due, only that reply is
        sent, and a request whose reply has begun gets no second one.
        """
        self._stop_header_timer()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        if self._reply_is_due():
            cycle.keep_alive = False
            return
        if self.in_body():
            cycle.disconnected = True
            cycle.message_event.set()
        if not self.in_body() or not (cycle.response_started or self.pipeline):
            self.transport.write(self._problem(error))
        self.transport.close()

    def _problem(self, error: LossServiceError) -> bytes:
        reply = problem_response(error, getattr(self, "url", b"").decode("latin-1").partition("?")[0])
        headers = [*with_security_headers(reply.raw_headers), *self.server_state.default_headers]
        headers += [(b"connection", b"close"), (b"x-request-id", secrets.token_hex(16).encode())]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return STATUS_LINE[error.status] + lines + b"\r\n" + bytes(reply.body)
