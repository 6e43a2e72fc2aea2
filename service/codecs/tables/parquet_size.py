"""The inflated size that a Parquet file declares in its headers.

pyarrow allocates as much memory as the pages declare, and a small page can declare many values. Its Python API for the
metadata does not help: a broken column chunk ends the process. So this module parses the footer and the page headers,
which are structs in Thrift's compact protocol (parquet-format/src/main/thrift/parquet.thrift), and ignores the fields
that it does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow.parquet as pq

from service.errors import DecodeError, InvalidRequestError
from service.formats.arrays import Body

MAX_FOOTER_BYTES = 8 * 1024 * 1024
MAX_PAGES = 2**17
# Bytes of the header of a page: a few numbers, and the statistics of its values.
MAX_PAGE_HEADER_BYTES = 64 * 1024
# Structs and lists in each other, and dots in the path of a column.
MAX_DEPTH = 12
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
# pyarrow stores where each list begins.
OFFSET_BYTES = 4
# Each text is stored as the difference to the text before, so the total size is not declared anywhere.
DELTA_BYTE_ARRAY = 7

Fields = dict[int, Any]


def declared_size(body: Body, schema: pq.ParquetSchema, names: list[str]) -> int:
    """The inflated bytes of the pages of columns; a text in a dictionary counts once, its uses as indices.

    Args:
        body: The whole file.
        schema: Schema of the file.
        names: Names of the columns; a nested column has several leaves in the file.

    Raises:
        DecodeError: The headers contradict each other, or point outside of the file.
        InvalidRequestError: The encoding of a column does not declare its size, or the file has too many pages.
    """
    body = memoryview(body)
    leaves = [schema.column(position) for position in range(len(schema))]
    # The same choice as in pyarrow: a column and all leaves in it.
    wanted = set(names)
    selected = [(position, leaf) for position, leaf in enumerate(leaves) if not wanted.isdisjoint(owners(leaf.path))]
    total = pages = 0
    # FileMetaData: 4 row_groups. RowGroup: 1 columns, 3 num_rows. ColumnChunk: 3 meta_data.
    for group in _field(_footer(body), 4, list):
        chunks, rows = _field(group, 1, list), _field(group, 3, int)
        if len(chunks) != len(leaves):
            raise DecodeError(f"parquet: a row group of {len(chunks)} columns, the schema has {len(leaves)}")
        # pyarrow reads nothing of a group without rows, and its offsets may be invalid.
        for position, leaf in selected if rows else ():
            size = values = 0
            for inflated, count, encoding in _pages(body, _field(chunks[position], 3, dict)):
                pages += 1
                if pages > MAX_PAGES:
                    raise InvalidRequestError(f"parquet: more than {MAX_PAGES} pages; write it with larger ones")
                if leaf.physical_type == "BYTE_ARRAY" and encoding == DELTA_BYTE_ARRAY:
                    msg = f"column {leaf.path[:100]!r} has the encoding DELTA_BYTE_ARRAY, which is not supported"
                    raise InvalidRequestError(f"parquet: {msg}: write it with another")
                size, values = size + inflated, values + count
            if values < rows or (leaf.max_repetition_level == 0 and values != rows):
                raise DecodeError(f"parquet: column {leaf.path[:100]!r} has {values} values in {rows} rows")
            total += max(size, values * _value_bytes(leaf))
    return total


def _value_bytes(leaf: pq.ColumnSchema) -> int:
    """The bytes of a value: of nested lists also those of the lists, which may hold one value each, or none."""
    width = WIDTHS.get(leaf.physical_type) or max(1, leaf.length)
    levels = leaf.max_repetition_level
    return width if levels < 2 else max(width, OFFSET_BYTES * levels)


def owners(path: str) -> Iterator[str]:
    """The columns that a leaf can belong to: its path up to each dot, because a name may have dots too."""
    parts = path.split(".", MAX_DEPTH)
    return accumulate(parts, lambda outer, inner: f"{outer}.{inner}")


def _footer(body: Body) -> Fields:
    length = int.from_bytes(body[-8:-4], "little")
    if length > min(MAX_FOOTER_BYTES, len(body) - 8):
        raise DecodeError(f"parquet: a footer of {length} bytes, at most {MAX_FOOTER_BYTES} are accepted")
    return _struct(body, len(body) - 8 - length, 0)[0]


def _pages(body: Body, chunk: Fields) -> Iterator[tuple[int, int, int]]:
    """The inflated bytes, the number of values (0 for a dictionary) and the encoding of each page of a chunk."""
    # ColumnMetaData: 7 total_compressed_size, 9 data_page_offset, 11 dictionary_page_offset.
    start = _field(chunk, 9, int)
    if 11 in chunk and 0 < _field(chunk, 11, int) < start:
        start = chunk[11]
    position, end = start, start + _field(chunk, 7, int)
    if end > len(body):
        raise DecodeError(f"parquet: a column from {start} to {end}, the file has {len(body)} bytes")
    while position < end:
        try:
            header, data = _struct(body[: position + MAX_PAGE_HEADER_BYTES], position, 0)
        except IndexError as err:
            msg = f"parquet: the header of a page is cut off, or larger than {MAX_PAGE_HEADER_BYTES} bytes"
            raise DecodeError(msg) from err
        values = encoding = 0
        # PageHeader: 2 and 3 are the sizes, inflated and in the file; 5 and 8 are the headers of data pages, with the
        # number of values in 1 and the encoding in 2 or 4.
        for kind, place in ((5, 2), (8, 4)):
            if kind in header:
                page = _field(header, kind, dict)
                values, encoding = values + _field(page, 1, int), _field(page, place, int)
        position = data + _field(header, 3, int)
        yield _field(header, 2, int), values, encoding


def _field(fields: Any, number: int, kind: type[Any]) -> Any:
    value = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(value, kind) or (kind is int and value < 0):
        raise DecodeError(f"parquet: field {number} of a header is {str(value)[:20]}")
    return value


def _struct(body: Body, position: int, depth: int) -> tuple[Fields, int]:
    """The integers, structs and lists of a struct by their field numbers, and the position behind it."""
    if depth > MAX_DEPTH:
        raise DecodeError("parquet: a header nested too deep")
    fields: Fields = {}
    number = 0
    while byte := body[position]:
        position += 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, position = _integer(body, position)
        # The type of a boolean is its value.
        if byte & 15 not in (1, 2):
            fields[number], position = _value(body, position, byte & 15, depth)
    return fields, position + 1


def _value(body: Body, position: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2 | 3:
            return None, position + 1
        case 4 | 5 | 6:
            return _integer(body, position)
        case 7:
            return None, position + 8
        case 8:
            length, position = _varint(body, position)
            return None, position + length
        case 9 | 10:
            return _list(body, position, depth + 1)
        case 12:
            return _struct(body, position, depth + 1)
        case _:
            raise DecodeError(f"parquet: a header with a field of type {kind}")


def _list(body: Body, position: int, depth: int) -> tuple[list[Any], int]:
    if depth > MAX_DEPTH:
        raise DecodeError("parquet: a header nested too deep")
    head = body[position]
    position += 1
    count = head >> 4
    if count == 15:
        count, position = _varint(body, position)
    if count > MAX_FOOTER_BYTES:
        raise DecodeError(f"parquet: a list of {count} in a header")
    values = []
    for _ in range(count):
        value, position = _value(body, position, head & 15, depth)
        values.append(value)
    return values, position


def _integer(body: Body, position: int) -> tuple[int, int]:
    value, position = _varint(body, position)
    return (value >> 1) ^ -(value & 1), position


def _varint(body: Body, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise DecodeError("parquet: a number of more than ten bytes")
