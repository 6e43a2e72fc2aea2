"""`POST /loss` with an Arrow stream in and out: each batch is read, computed and sent while the request arrives.

Memory holds one batch at a time, however long the stream is. A thread pulls the request's bytes from the event loop
when it needs them and waits until the reply's bytes are sent, so a slow client slows its stream down and nothing piles
up. Starlette's StreamingResponse cannot do this: under uvicorn it consumes the request's events itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, cast

import pyarrow as pa
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.admission import Place
from service.api.current import current_request
from service.api.http.encoding import inflating
from service.api.http.negotiation import Negotiation
from service.api.http.pace import Pace
from service.api.state import Service
from service.codecs.arrow.codec import ArrowCodec
from service.codecs.arrow.columns import ReplyColumns
from service.codecs.arrow.reader import ArrowStream
from service.codecs.arrow.writer import ArrowResultWriter
from service.compute.evaluation import Evaluation, check_ids
from service.errors import BodyTimeoutError, LossServiceError
from service.schema.config import Mode
from service.schema.request import RequestOptions


class ArrowStreamResponse(Response):
    """The reply to an Arrow stream, written while the request is read.

    Args:
        service: The running service.
        negotiation: Formats, codings and query of the request.
    """

    def __init__(self, service: Service, negotiation: Negotiation) -> None:
        self._service = service
        self._negotiation = negotiation
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, settings, place = asyncio.get_running_loop(), self._service.settings, current_request().place
        await place.enter(0)
        connection = _Connection(loop, receive, send, settings.body_timeout_s, settings.min_bytes_per_s, place)
        process = partial(_process, self._service, self._negotiation, connection)
        await loop.run_in_executor(self._service.streams, process)
        place.leave()
        # The place is free again before this, since `BufferedReplies` sends a whole HTTP/1.0 reply here, at the
        # client's pace.
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def is_arrow_stream(negotiation: Negotiation) -> bool:
    """True if request and reply are Arrow streams, so that each batch is answered as it arrives."""
    return isinstance(negotiation.reader, ArrowCodec) and isinstance(negotiation.writer, ArrowCodec)


def _process(service: Service, negotiation: Negotiation, connection: _Connection) -> None:
    """Read and answer the whole stream; runs on its own thread."""
    source = inflating(cast(BinaryIO, connection), negotiation.request_coding)
    settings = service.settings
    stream = ArrowStream(source, settings.max_body_bytes, max_rows=settings.max_examples)
    options = negotiation.options(stream.options)
    module = service.module(options)
    evaluation = Evaluation(service.device, module, options, service.limits)
    writer: ArrowResultWriter | None = None
    try:
        for number, batch in enumerate(stream):
            check_ids([batch], number)
            result = evaluation.add(batch)
            service.metrics.count(result)
            writer = writer or _writer(stream, options, module.config.mode)
            connection.write(writer.batch(result))
            connection.release()
        writer = writer or _writer(stream, options, module.config.mode)
        connection.write(writer.end(evaluation.result()))
    except LossServiceError as err:
        # The status is sent with the first batch: a later error goes into the stream, which then has no end mark.
        if writer is None:
            raise
        connection.write(writer.failure(err))


def _writer(stream: ArrowStream, options: RequestOptions, mode: Mode) -> ArrowResultWriter:
    columns = ReplyColumns(
        outputs=options.outputs,
        id_type=stream.id_type,
        float_type=pa.float64() if stream.is_double else pa.float32(),
        many_labels=stream.has_many_labels(mode),
        elements=options.elements,
        element_levels=stream.element_levels(mode),
        has_regions=options.with_regions,
    )
    return ArrowResultWriter(columns)


class _Connection:
    """Request and reply as a blocking file, for a thread other than the event loop's.

    Args:
        loop: The event loop of `receive` and `send`.
        receive: ASGI `receive` of the request.
        send: ASGI `send` of the reply.
        timeout_s: Maximum seconds without progress in either direction.
        min_bytes_per_s: Least average rate of a batch that has begun to arrive; between batches the client may pause.
        place: Counts the bytes of the current batch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Receive,
        send: Send,
        timeout_s: float,
        min_bytes_per_s: int,
        place: Place,
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._send = send
        self._timeout_s = timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        # Of the batch that is arriving; None between batches.
        self._pace: Pace | None = None
        self._received = 0
        self._place = place
        self._pending = memoryview(b"")
        self._more = True
        self._started = False
        self.closed = False

    def read(self, size: int) -> bytearray:
        """Wait for `size` bytes; fewer only at the end of the request."""
        data = bytearray()
        while len(data) < size and (self._pending or self._more):
            if not self._pending:
                self._pending = memoryview(self._next_body())
            chunk = self._pending[: size - len(data)]
            self._place.hold(len(chunk))
            self._pending = self._pending[len(chunk) :]
            data += chunk
        return data

    def release(self) -> None:
        """Release the bytes read so far from the place of the request: a batch is done."""
        self._pace, self._received = None, 0
        self._place.release()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        """Send bytes of the reply, after its headers; waits until they are sent."""
        if not self._started:
            self._started = True
            media_type = ArrowCodec.media_type.encode()
            headers = [(b"content-type", media_type), (b"vary", b"Accept, Accept-Encoding")]
            self._wait(lambda: self._send({"type": "http.response.start", "status": 200, "headers": headers}))
        message: Message = {"type": "http.response.body", "body": data, "more_body": True}
        try:
            self._wait(lambda: self._send(message))
        except TimeoutError as err:
            # The client does not read, so no error can reach it.
            raise ClientDisconnect from err

    def _next_body(self) -> bytes:
        try:
            message: Message = self._wait(self._receive_in_time)
        except TimeoutError as err:
            raise BodyTimeoutError(
                f"nothing of the body arrived for {self._timeout_s:g} s (body_timeout_s), or a batch came at less than "
                f"{self._min_bytes_per_s} bytes/s (min_bytes_per_s)",
                headers={"Connection": "close"},
            ) from err
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._more = message.get("more_body", False)
        return cast(bytes, message.get("body", b""))

    async def _receive_in_time(self) -> Message:
        deadline = self._pace.deadline(self._received) if self._pace else None
        async with asyncio.timeout_at(deadline):
            message = await self._receive()
        if self._min_bytes_per_s:
            # The time of a batch begins with its first bytes.
            self._pace = self._pace or Pace(math.inf, self._min_bytes_per_s)
            self._pace.deadline(0)
        self._received += len(message.get("body", b""))
        return message

    def _wait(self, action: Callable[[], Any]) -> Any:
        async def within_time() -> Any:
            return await asyncio.wait_for(action(), self._timeout_s)

        try:
            return asyncio.run_coroutine_threadsafe(within_time(), self._loop).result()
        except concurrent.futures.CancelledError as err:
            raise ClientDisconnect from err
