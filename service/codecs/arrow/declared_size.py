"""The rows and the inflated size that an Arrow message declares; pyarrow allocates that much memory."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from service.codecs.arrow.flatbuffers import Flatbuffer
from service.errors import DecodeError


class Declared(NamedTuple):
    """The declaration of a record batch or dictionary.

    Args:
        rows: Rows, or values of a dictionary.
        nbytes: Bytes of the inflated buffers; 0 without compression.
        dictionary: Id of the dictionary; None for a record batch.
        is_delta: The values are added to those that the dictionary has.
    """

    rows: int
    nbytes: int
    dictionary: int | None
    is_delta: bool


def declared(message: Any) -> Declared:
    """Read the declaration of a message.

    Reads the flatbuffer of `Message` and `RecordBatch` (Arrow's format/Message.fbs): the field `header` (2) of the
    first, `length` (0), `buffers` (2) and `compression` (3) of the second; a `DictionaryBatch` has its `id` in 0, its
    `RecordBatch` in `data` (1) and `isDelta` in 2. Each compressed buffer begins with its inflated length.

    Args:
        message: A `pyarrow.ipc.Message`: a record batch or a dictionary.

    Raises:
        DecodeError, struct.error: The message is damaged.
    """
    metadata = Flatbuffer(memoryview(message.metadata))
    header = metadata.member(metadata.root, 2)
    if header is None:
        raise DecodeError("arrow: a message without a header")
    record_batch, dictionary, is_delta = metadata.target(header), None, False
    if message.type == "dictionary":
        number, data, delta = (metadata.member(record_batch, index) for index in range(3))
        if data is None:
            raise DecodeError("arrow: a dictionary without data")
        dictionary = 0 if number is None else metadata.number("<q", number)
        is_delta = delta is not None and metadata.number("<B", delta) != 0
        record_batch = metadata.target(data)
    length = metadata.member(record_batch, 0)
    rows = 0 if length is None else metadata.number("<q", length)
    if rows < 0:
        raise DecodeError(f"arrow: a message of {rows} rows")
    return Declared(rows, _inflated(metadata, record_batch, memoryview(message.body)), dictionary, is_delta)


def _inflated(metadata: Flatbuffer, record_batch: int, body: memoryview) -> int:
    buffers = metadata.member(record_batch, 2)
    if metadata.member(record_batch, 3) is None or buffers is None:
        return 0
    vector = metadata.target(buffers)
    total = 0
    for position in range(vector + 4, vector + 4 + 16 * metadata.number("<I", vector), 16):
        offset, length = metadata.number("<q", position), metadata.number("<q", position + 8)
        if length:
            inflated = struct.unpack_from("<q", body, offset)[0]
            total += length if inflated < 0 else inflated
    return total
