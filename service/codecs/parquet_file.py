"""`application/vnd.apache.parquet`: a Parquet file, with columns named as people name them.

Nothing in it is trusted. pyarrow allocates what pages claim to hold, and a page of few bytes may hold many values or
one long text many times. So the claims of every page are added up before any is read, and texts are read with their
dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.base import inflated_bytes
from service.codecs.tables import (
    check_attributes,
    check_size,
    decoding,
    find_columns,
    options_of,
    request_of,
)
from service.errors import DecodeError, InvalidRequestError
from service.messages import LossRequest

MAX_PAGES = 2**17
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
# Each text may be one that grows by a letter out of the text before: their size is nowhere said.
DELTA_BYTE_ARRAY = 7


class ParquetReader:
    """Contract section 2, Parquet; options stand under the schema's metadata key `request`."""

    media_type = "application/vnd.apache.parquet"
    aliases: tuple[str, ...] = ()

    def decode(self, body: bytearray, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        with decoding("parquet"):
            source = pa.BufferReader(body)
            schema = pq.ParquetFile(source).schema_arrow
            columns = find_columns(schema.names, with_attributes=with_attributes)
            check_attributes(schema, columns)
            options = options_of(schema, "parquet")
            texts = [name for name in columns.all if _is_text(schema.field(name).type)]
            file = pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False)
            check_size(_claimed_size(body, file.metadata, columns.all), max_bytes)
            table = file.read(columns=columns.all, use_threads=False)
            table.validate(full=True)
            return request_of(table, columns, options, max_bytes)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _claimed_size(body: bytearray, metadata: pq.FileMetaData, names: list[str]) -> int:
    """The bytes that the columns claim to hold, page by page; texts as their dictionary and a number for each row."""
    total = pages = 0
    for position in range(metadata.num_columns):
        leaf = metadata.schema.column(position)
        # As pyarrow chooses: a column, and all that lies in it.
        if not any(leaf.path == name or leaf.path.startswith(f"{name}.") for name in names):
            continue
        width = WIDTHS.get(leaf.physical_type) or max(1, leaf.length)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            values = size = 0
            for inflated, count, encoding in _pages(body, group.column(position)):
                pages += 1
                if pages > MAX_PAGES:
                    raise InvalidRequestError(f"parquet: more than {MAX_PAGES} pages; write it with larger ones")
                size += inflated
                values += count
                if leaf.physical_type == "BYTE_ARRAY" and encoding == DELTA_BYTE_ARRAY:
                    msg = f"column {leaf.path[:100]!r} has the encoding DELTA_BYTE_ARRAY, which is not taken"
                    raise InvalidRequestError(f"parquet: {msg}: write it with another")
            if values < group.num_rows or (leaf.max_repetition_level == 0 and values != group.num_rows):
                raise DecodeError(f"parquet: column {leaf.path[:100]!r} has {values} values in {group.num_rows} rows")
            total += max(size, values * width)
    return total


def _pages(body: bytearray, chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, int, int]]:
    """The inflated bytes, the values and the encoding of a chunk's pages; a dictionary's values count as none.

    By `PageHeader` in parquet-format/src/main/thrift/parquet.thrift: its fields 2 and 3 are the sizes, 5 and 8 the
    headers of data pages, with the values in 1, and the encoding in 2 and in 4.
    """
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    position, end = start, start + chunk.total_compressed_size
    if not 0 <= start <= end <= len(body):
        raise DecodeError(f"parquet: a column from {start} to {end}, the file has {len(body)} bytes")
    while position < end:
        header, position = _struct(body, position)
        values = encoding = 0
        for kind, place in ((5, 2), (8, 4)):
            if kind in header:
                data = header[kind]
                if not isinstance(data, dict):
                    raise DecodeError("parquet: a page header that is none")
                values, encoding = values + _size(data, 1), _size(data, place)
        position += _size(header, 3)
        yield _size(header, 2), values, encoding


def _size(fields: dict[int, Any], field: int) -> int:
    value = fields.get(field)
    if not isinstance(value, int) or value < 0:
        raise DecodeError(f"parquet: a page header whose field {field} is {str(value)[:20]}")
    return value


def _struct(body: bytearray, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol: its integers and structs by their field ids; and where it ends."""
    fields: dict[int, Any] = {}
    field = 0
    while head := body[position]:
        position += 1
        kind = head & 15
        if head >> 4:
            field += head >> 4
        else:
            field, position = _integer(body, position)
        if kind in (4, 5, 6):
            fields[field], position = _integer(body, position)
        elif kind == 12 and depth < 4:
            fields[field], position = _struct(body, position, depth + 1)
        elif kind == 8:
            length, position = _varint(body, position)
            position += length
        elif kind in (1, 2, 3, 7):
            # Booleans stand in their head.
            position += {3: 1, 7: 8}.get(kind, 0)
        else:
            raise DecodeError(f"parquet: a page header with a field of type {kind}")
    return fields, position + 1


def _integer(body: bytearray, position: int) -> tuple[int, int]:
    value, position = _varint(body, position)
    return (value >> 1) ^ -(value & 1), position


def _varint(body: bytearray, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise DecodeError("parquet: a number of more than ten bytes")
