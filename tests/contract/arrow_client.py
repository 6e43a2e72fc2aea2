"""Sends an Arrow stream and reads the reply at the same time, which the common HTTP clients do not do."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from tests.live.server_process import ServerProcess

MEDIA_TYPE = "application/vnd.apache.arrow.stream"


def ipc_pieces(schema: pa.Schema, batches: Iterable[pa.RecordBatch], **options: Any) -> Iterator[bytes]:
    """The bytes of a stream, one piece for the schema, each batch, and the end."""
    buffer = io.BytesIO()
    writer = pa.ipc.new_stream(buffer, schema, **options)

    def taken() -> bytes:
        data = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return data

    # pyarrow writes the schema together with the first batch.
    head = schema.serialize().to_pybytes()
    yield head
    position = len(head)
    for batch in batches:
        writer.write_batch(batch)
        yield taken()[position:]
        position = 0
    writer.close()
    yield taken()[position:]


@contextmanager
def duplex(
    server: ServerProcess, pieces: Iterable[bytes], path: str = "/loss", **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """The response to a chunked request that another thread goes on sending."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", path)
    sent = {"Content-Type": MEDIA_TYPE, "Transfer-Encoding": "chunked"} | headers
    for name, value in sent.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()

    def send() -> None:
        try:
            for piece in pieces:
                if piece:
                    connection.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
            connection.send(b"0\r\n\r\n")
        except OSError:
            pass  # the server replied and stopped reading

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield connection.getresponse()
    finally:
        sender.join(60)
        connection.close()


def read_batches(source: Any) -> Iterator[tuple[pa.RecordBatch, dict[str, str]]]:
    """Record batches and their custom metadata as they arrive."""
    reader = pa.ipc.open_stream(source)
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        yield batch, {key.decode(): value.decode() for key, value in (metadata or {}).items()}
