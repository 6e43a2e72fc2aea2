"""`POST /loss` with Arrow in and Arrow out: read, computed and answered batch by batch while the request arrives.

Memory holds one batch at a time, however long the stream is. The worker thread pulls the request's bytes from the
event loop as it needs them and waits until the reply's bytes are taken, so a slow client slows the stream down, in
both directions, and nothing piles up. Starlette's StreamingResponse cannot do this: under uvicorn it reads the
request's events itself while it streams.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, cast

import pyarrow as pa
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.admission import Place
from service.api.http.encoding import inflating
from service.api.http.exchange import Exchange
from service.api.state import Service
from service.codecs.arrow.codec import ArrowCodec
from service.codecs.arrow.reader import ArrowStream
from service.codecs.arrow.writer import ArrowResultWriter
from service.compute.evaluation import Evaluation, check_ids
from service.errors import BodyTimeoutError, LossServiceError
from service.schema.request import RequestOptions


class ArrowStreamResponse(Response):
    """The reply to an Arrow stream, made while the request is read.

    Args:
        service: The running service.
        exchange: What the head of the request says.
    """

    def __init__(self, service: Service, exchange: Exchange) -> None:
        self._service = service
        self._exchange = exchange
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s = self._service.settings.body_timeout_s
        async with self._service.admission.place() as place:
            loop = asyncio.get_running_loop()
            connection = _Connection(loop, receive, send, timeout_s, place)
            answer = partial(_answer, self._service, self._exchange, connection)
            await loop.run_in_executor(self._service.streams, answer)
        # Without the place: a client of HTTP/1.0 gets the whole reply here, at its own pace.
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def streams(exchange: Exchange) -> bool:
    """Whether a request is answered batch by batch: Arrow in, Arrow out."""
    return isinstance(exchange.reader, ArrowCodec) and isinstance(exchange.writer, ArrowCodec)


def _answer(service: Service, exchange: Exchange, connection: _Connection) -> None:
    """The whole stream, on a thread of its own."""
    source = inflating(cast(BinaryIO, connection), exchange.request_coding)
    stream = ArrowStream(source, service.settings.max_body_bytes)
    options = exchange.options(RequestOptions.parse(stream.request_fields))
    evaluation = Evaluation(service.device, service.module(options), options, service.limits)
    writer: ArrowResultWriter | None = None
    try:
        for number, batch in enumerate(stream):
            check_ids([batch], number)
            result = evaluation.add(batch)
            service.metrics.count(result)
            writer = writer or _writer(stream, options)
            connection.write(writer.batch(result))
            connection.release()
        writer = writer or _writer(stream, options)
        connection.write(writer.end(evaluation.result()))
    except LossServiceError as err:
        # Once the reply has begun its status is sent: the error goes into the stream, which stays without its end.
        if writer is None:
            raise
        connection.write(writer.failure(err))


def _writer(stream: ArrowStream, options: RequestOptions) -> ArrowResultWriter:
    return ArrowResultWriter(
        options.outputs,
        id_type=stream.id_type,
        float_type=pa.float64() if stream.is_double else pa.float32(),
        many_labels=stream.has_many_labels,
    )


class _Connection:
    """The request as a file to read and the reply as one to write, both blocking, for a thread beside the event loop.

    Args:
        loop: Where receive and send belong.
        receive: Of the request.
        send: Of the reply.
        timeout_s: Seconds without progress, either way.
        place: Counts the bytes of the batch at hand.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Receive,
        send: Send,
        timeout_s: float,
        place: Place,
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._send = send
        self._timeout_s = timeout_s
        self._place = place
        self._pending = memoryview(b"")
        self._more = True
        self._started = False
        self.closed = False

    def read(self, size: int) -> bytearray:
        """At most `size` bytes, fewer only at the end of the request; waits for them."""
        taken = bytearray()
        while len(taken) < size and (self._pending or self._more):
            if not self._pending:
                self._pending = memoryview(self._next_body())
            step = self._pending[: size - len(taken)]
            self._place.hold(len(step))
            self._pending = self._pending[len(step) :]
            taken += step
        return taken

    def release(self) -> None:
        """What has been read so far is not held any more."""
        self._place.release()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        """Send bytes of the reply, after its head; waits until they are taken."""
        if not self._started:
            self._started = True
            media_type = ArrowCodec.media_type.encode()
            headers = [(b"content-type", media_type), (b"vary", b"Accept, Accept-Encoding")]
            self._wait(lambda: self._send({"type": "http.response.start", "status": 200, "headers": headers}))
        message: Message = {"type": "http.response.body", "body": data, "more_body": True}
        try:
            self._wait(lambda: self._send(message))
        except TimeoutError as err:
            # Nobody reads: there is no one left to tell.
            raise ClientDisconnect from err

    def _next_body(self) -> bytes:
        try:
            message: Message = self._wait(self._receive)
        except TimeoutError as err:
            raise BodyTimeoutError(
                f"nothing of the body arrived for {self._timeout_s:g} s", headers={"Connection": "close"}
            ) from err
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._more = message.get("more_body", False)
        return cast(bytes, message.get("body", b""))

    def _wait(self, action: Callable[[], Any]) -> Any:
        async def within_time() -> Any:
            return await asyncio.wait_for(action(), self._timeout_s)

        try:
            return asyncio.run_coroutine_threadsafe(within_time(), self._loop).result()
        except concurrent.futures.CancelledError as err:
            raise ClientDisconnect from err
