"""`application/vnd.apache.arrow.file`: an Arrow file (Feather V2), with columns named as people name them.

The file is the stream between two magic words, and its footer is not needed to read it in full. Many programs write
the stream alone into a file of the same name, so that is taken too.
"""

from __future__ import annotations

import pyarrow as pa

from service.codecs.arrow.reader import inflated_size
from service.codecs.base import inflated_bytes
from service.codecs.tables.request import (
    check_attributes,
    check_size,
    decoding,
    find_columns,
    options_of,
    request_of,
)
from service.errors import DecodeError
from service.formats.arrays import Body
from service.schema.request import LossRequest

MAGIC = b"ARROW1"
# With what fills it up to eight bytes.
MAGIC_BYTES = 8


class ArrowFileReader:
    """Contract section 2, Arrow; options stand under the schema's metadata key `request`."""

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
            _check_claims(stream, max_bytes)
            reader = pa.ipc.open_stream(stream)
            columns = find_columns(reader.schema.names, with_attributes=with_attributes)
            check_attributes(reader.schema, columns)
            options = options_of(reader.schema, "arrow")
            table = reader.read_all()
            table.validate(full=True)
            return request_of(table, columns, options, max_bytes)


def _check_claims(stream: pa.Buffer, max_bytes: int) -> None:
    """Raise where compressed buffers claim to hold more than they may; what they claim is what pyarrow allocates."""
    claimed = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type in ("record batch", "dictionary"):
            claimed += inflated_size(message)
            check_size(claimed, max_bytes)
