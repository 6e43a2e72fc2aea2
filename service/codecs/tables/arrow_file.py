"""`application/vnd.apache.arrow.file`: an Arrow file (Feather V2), with columns found by their usual names.

The file is a stream between two magic words; its footer is not needed. Many programs write only the stream into a file
of the same kind, so the reader accepts that too.
"""

from __future__ import annotations

import pyarrow as pa

from service.codecs.arrow.declared_size import declared_size
from service.codecs.arrow.reader import schema_options
from service.codecs.base import inflated_bytes
from service.codecs.tables.request import (
    check_attribute_types,
    check_size,
    decoding,
    find_columns,
    request_of,
)
from service.errors import DecodeError
from service.formats.arrays import Body
from service.schema.request import LossRequest

MAGIC = b"ARROW1"
# The magic word with its padding.
MAGIC_BYTES = 8


class ArrowFileReader:
    """Arrow file; options are under the metadata key `request` of the schema."""

    media_type = "application/vnd.apache.arrow.file"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        stream = pa.py_buffer(body)
        with decoding("arrow"):
            if bytes(body[: len(MAGIC)]) == MAGIC:
                if bytes(body[-len(MAGIC) :]) != MAGIC:
                    raise DecodeError("arrow: the file ends before its footer")
                stream = stream.slice(MAGIC_BYTES)
            _check_declared_size(stream, max_bytes)
            reader = pa.ipc.open_stream(stream)
            columns = find_columns(reader.schema.names, with_attributes=with_attributes)
            check_attribute_types(reader.schema, columns)
            options = schema_options(reader.schema, "arrow")
            table = reader.read_all()
            table.validate(full=True)
            return request_of(table, columns, options, max_bytes)


def _check_declared_size(stream: pa.Buffer, max_bytes: int) -> None:
    """Check the size that compressed buffers declare, before pyarrow allocates it."""
    size = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type in ("record batch", "dictionary"):
            size += declared_size(message)
            check_size(size, max_bytes)
