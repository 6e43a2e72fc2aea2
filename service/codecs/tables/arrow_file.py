"""`application/vnd.apache.arrow.file`: an Arrow file (Feather V2), with columns found by their usual names.

The blocks of its footer are checked before pyarrow reads them. Many programs write only the stream into a file of the
same kind, so the reader accepts that too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from service.codecs.arrow.declared_size import declared
from service.codecs.arrow.flatbuffers import Flatbuffer
from service.codecs.arrow.options import schema_options
from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_rows, inflated_bytes
from service.codecs.tables.batch import (
    BatchOptions,
    FindColumns,
    TableRows,
    batch_of,
    check_size,
    check_types,
    resolve_columns,
)
from service.codecs.tables.decoding import decoding
from service.errors import DecodeError
from service.formats.arrays import Body
from service.formats.column_names import find_columns
from service.schema.request import LossRequest

MAGIC = b"ARROW1"
# A file ends with the footer, its length in 4 bytes, and the magic word. A block takes 24 bytes of the footer.
LENGTH_BYTES, BLOCK_BYTES = 4, 24


class ArrowFileReader:
    """Arrow file; options are under the metadata key `request` of the schema."""

    media_type = "application/vnd.apache.arrow.file"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        columns, table = self.rows(body, options, find_columns, batch=0)
        with decoding("arrow"):
            request_options = schema_options(table.schema, "arrow")
            max_bytes = inflated_bytes(body, options.max_bytes)
            batch = batch_of(table, columns, 0, BatchOptions.of(request_options, max_bytes, options.max_rows))
        return LossRequest(request_options, (batch,))

    def rows(self, body: Body, options: DecodeOptions, find: FindColumns, *, batch: int | None = None) -> TableRows:
        """See `TableReader.rows`."""
        content = pa.py_buffer(body)
        is_file = bytes(body[: len(MAGIC)]) == MAGIC
        with decoding("arrow"):
            if is_file and bytes(body[-len(MAGIC) :]) != MAGIC:
                raise DecodeError("arrow: the file ends before its footer")
            messages = _blocks(content, body) if is_file else pa.ipc.MessageReader.open_stream(content)
            _check_declared(messages, inflated_bytes(body, options.max_bytes), options.max_rows)
            reader = pa.ipc.open_file(content) if is_file else pa.ipc.open_stream(content)
            columns = resolve_columns(
                reader.schema.names, with_attributes=options.with_attributes, find=find, batch=batch
            )
            check_types(reader.schema, columns, batch)
            table = reader.read_all()
            table.validate(full=True)
            return TableRows(columns, table.select(columns.all))


def _check_declared(messages: Iterator[Any], max_bytes: int, max_rows: int | None) -> None:
    """Check the rows and the size that compressed buffers declare, before pyarrow allocates them."""
    rows = size = 0
    for message in messages:
        if message.type in ("record batch", "dictionary"):
            message_rows, nbytes, dictionary, _ = declared(message)
            rows, size = rows + (message_rows if dictionary is None else 0), size + nbytes
            check_size(size, max_bytes)
            check_rows(rows, max_rows)


def _blocks(content: pa.Buffer, body: Body) -> Iterator[Any]:
    """The messages of the dictionaries (2) and record batches (3) in the footer (Arrow's format/File.fbs)."""
    end = len(body) - len(MAGIC) - LENGTH_BYTES
    length = int.from_bytes(body[end : end + LENGTH_BYTES], "little")
    if not 0 < length <= end:
        raise DecodeError(f"arrow: a footer of {length} bytes")
    footer = Flatbuffer(memoryview(body)[end - length : end])
    for index in (2, 3):
        member = footer.member(footer.root, index)
        if member is None:
            continue
        vector = footer.target(member)
        for block in range(footer.number("<I", vector)):
            offset = footer.number("<q", vector + 4 + BLOCK_BYTES * block)
            if not 0 <= offset < len(body):
                raise DecodeError(f"arrow: a block at {offset}, the file has {len(body)} bytes")
            yield pa.ipc.read_message(content.slice(offset))
