"""`application/vnd.apache.arrow.stream` in one piece, for requests whose reply has another format, and vice versa.

`service.api.arrow_stream` serves requests with a reply in Arrow batch by batch.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa

from service.codecs.arrow.columns import ReplyColumns, element_levels
from service.codecs.arrow.reader import ArrowStream
from service.codecs.arrow.writer import ArrowResultWriter
from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_batches, inflated_bytes
from service.formats.arrays import Body
from service.formats.arrow_types import id_type
from service.schema.request import Batch, LossRequest
from service.schema.result import LossResult


class ArrowCodec:
    """Arrow IPC stream."""

    media_type = "application/vnd.apache.arrow.stream"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, options.max_bytes)
        stream = ArrowStream(
            io.BytesIO(body), max_bytes, max_rows=options.max_rows, with_attributes=options.with_attributes
        )
        batches: list[Batch] = []
        for batch in stream:
            batches.append(batch)
            check_batches(len(batches))
        return LossRequest(stream.options, tuple(batches))

    def encode(self, result: LossResult) -> bytes:
        """See `Codec.encode`."""
        batches = result.batches
        ids = [identity for batch in batches for identity in batch.ids or ()]
        arrays = [array for batch in batches for array in (batch.per_example | batch.per_element).values()]
        is_double = any(array.dtype == np.float64 for array in arrays)
        levels = [element_levels(array, batch.offsets) for batch in batches for array in batch.per_element.values()]
        columns = ReplyColumns(
            outputs=list(batches[0].per_example) if batches else [],
            id_type=id_type(ids) if ids else None,
            float_type=pa.float64() if is_double else pa.float32(),
            many_labels=any(batch.per_example.get("prediction", np.empty(0)).ndim > 1 for batch in batches),
            elements=list(batches[0].per_element) if batches else [],
            element_levels=max(levels, default=0),
            has_regions=any(batch.regions is not None for batch in batches),
        )
        writer = ArrowResultWriter(columns)
        return b"".join([*map(writer.batch, batches), writer.end(result)])
