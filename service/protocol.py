"""uvicorn's HTTP/1.1 protocol with the limits it lacks: size and time of a request's head, and our error shape.

uvicorn's httptools protocol takes a head of any size and waits for it for ever (uvicorn issue 157), and answers what
is not HTTP in plain text.
"""

from __future__ import annotations

import asyncio
import http
import uuid
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.problems import MEDIA_TYPE, problem_response
from service.errors import DecodeError, HeadTimeoutError, HeadTooLargeError, LossServiceError


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Subclasses set the two limits.

    Args:
        max_head_bytes: Bytes of request line and headers.
        head_timeout_s: Seconds for them to arrive, from the connection or from their first byte.
    """

    max_head_bytes: int
    head_timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is awaited from here on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """No head is awaited any more."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives while a head is incomplete."""
        arriving = self._head_bytes is not None
        super().data_received(data)
        # What is still incomplete after parsing is all head; a complete one has been counted in on_header.
        if arriving and self._head_bytes is not None:
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
        if size > self.max_head_bytes:
            self._refuse(self._too_large())
        else:
            super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer to what is not HTTP, as a problem; none where another answer has closed the connection."""
        if not self.transport.is_closing():
            self._refuse(DecodeError(msg))

    def _await_head(self) -> None:
        self._head_arrived()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _head_arrived(self) -> None:
        self._head_bytes = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

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

    def _refuse(self, error: LossServiceError) -> None:
        path = getattr(self, "url", b"").decode("latin-1").partition("?")[0]
        content = bytes(problem_response(error, path).body)
        head = (
            f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(content)}\r\nx-request-id: {uuid.uuid4().hex}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()


def bounded_protocol(*, max_head_bytes: int, head_timeout_s: float) -> type[BoundedHttpProtocol]:
    """The protocol class with its limits, as uvicorn's `http` takes it."""
    limits = {"max_head_bytes": max_head_bytes, "head_timeout_s": head_timeout_s}
    return type("LimitedHttpProtocol", (BoundedHttpProtocol,), limits)
