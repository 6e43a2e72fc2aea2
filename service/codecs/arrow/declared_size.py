"""The inflated size that a compressed Arrow message declares; pyarrow allocates that much memory."""

from __future__ import annotations

import struct
from typing import Any

from service.errors import DecodeError


def declared_size(message: Any) -> int:
    """The inflated bytes that a record batch or dictionary declares; 0 without compression.

    Reads the flatbuffer of `Message` and `RecordBatch` (Arrow's format/Message.fbs): the field `header` (2) of the
    first, `buffers` (2) and `compression` (3) of the second; a `DictionaryBatch` has its `RecordBatch` in `data` (1).
    Each compressed buffer begins with its inflated length.

    Args:
        message: A `pyarrow.ipc.Message`.

    Raises:
        DecodeError, struct.error: The message is damaged.
    """
    metadata, body = memoryview(message.metadata), memoryview(message.body)

    def number(layout: str, position: int) -> int:
        value: int = struct.unpack_from(layout, metadata, position)[0]
        return value

    def member(table: int, index: int) -> int | None:
        vtable = table - number("<i", table)
        if 4 + 2 * index >= number("<H", vtable):
            return None
        offset = number("<H", vtable + 4 + 2 * index)
        return table + offset if offset else None

    header = member(number("<I", 0), 2)
    if header is None:
        raise DecodeError("arrow: a message without a header")
    record_batch = header + number("<I", header)
    if message.type == "dictionary":
        data = member(record_batch, 1)
        if data is None:
            raise DecodeError("arrow: a dictionary without data")
        record_batch = data + number("<I", data)
    buffers = member(record_batch, 2)
    if member(record_batch, 3) is None or buffers is None:
        return 0
    vector = buffers + number("<I", buffers)
    total = 0
    for position in range(vector + 4, vector + 4 + 16 * number("<I", vector), 16):
        offset, length = number("<q", position), number("<q", position + 8)
        if length:
            inflated = struct.unpack_from("<q", body, offset)[0]
            total += length if inflated < 0 else inflated
    return total
