"""`application/vnd.apache.arrow.stream` in one piece, for requests whose reply has another format, and vice versa.

`service.api.arrow_stream` serves requests with a reply in Arrow batch by batch.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa

from service.codecs.arrow.reader import ArrowStream
from service.codecs.arrow.writer import ArrowResultWriter
from service.codecs.base import check_batches, inflated_bytes
from service.formats.arrays import Body
from service.schema.request import Batch, LossRequest
from service.schema.result import BatchResult, LossResult


class ArrowCodec:
    """Arrow IPC stream."""

    media_type = "application/vnd.apache.arrow.stream"
    aliases: tuple[str, ...] = ()

    def decode(
        self,
        body: Body,
        *,
        with_attributes: bool = False,
        max_bytes: int | None = None,
        max_rows: int | None = None,
    ) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        stream = ArrowStream(io.BytesIO(body), max_bytes, max_rows=max_rows, with_attributes=with_attributes)
        batches: list[Batch] = []
        for batch in stream:
            batches.append(batch)
            check_batches(len(batches))
        return LossRequest(stream.options, tuple(batches))

    def encode(self, result: LossResult) -> bytes:
        """See `Codec.encode`."""
        batches = result.batches
        columns = [column for batch in batches for column in batch.per_example.values()]
        is_double = any(column.dtype == np.float64 for column in columns)
        writer = ArrowResultWriter(
            list(batches[0].per_example) if batches else [],
            id_type=_id_type(batches),
            float_type=pa.float64() if is_double else pa.float32(),
            many_labels=any(batch.per_example.get("prediction", np.empty(0)).ndim > 1 for batch in batches),
        )
        return b"".join([*map(writer.batch, batches), writer.end(result)])


def _id_type(batches: tuple[BatchResult, ...]) -> pa.DataType | None:
    """The narrowest type that holds all ids: integers of 64 bits, else text."""
    ids = [identity for batch in batches for identity in batch.ids or ()]
    if not ids:
        return None
    if any(isinstance(identity, str) for identity in ids):
        return pa.string()
    least, largest = min(map(int, ids)), max(map(int, ids))
    if largest < 2**63:
        return pa.int64()
    return pa.uint64() if least >= 0 else pa.string()
