"""Writes results as an Arrow IPC stream: a record batch per batch, then one without rows for the totals."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from service.codecs.arrow.columns import ReplyColumns, nested_column, regions_column
from service.codecs.element_outputs import PREFIX
from service.codecs.json_reply import excluded_examples, hardest_examples, json_text, warnings_metadata
from service.errors import LossServiceError
from service.schema.request import REGIONS
from service.schema.result import BatchResult, LossResult


class ArrowResultWriter:
    """Encodes results as the bytes of a stream, piece by piece.

    Args:
        columns: The columns of the stream.
    """

    def __init__(self, columns: ReplyColumns) -> None:
        self._schema = columns.schema()
        self._buffer = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._buffer, self._schema)

    def batch(self, result: BatchResult) -> bytes:
        """The next bytes: a record batch; its custom metadata has the loss and the counts."""
        arrays = [self._identity(result), *(_column(result, field) for field in list(self._schema)[1:])]
        return self._write(pa.record_batch(arrays, schema=self._schema), _counts(result))

    def end(self, total: LossResult) -> bytes:
        """The last bytes: the totals and the end-of-stream marker."""
        metadata = _counts(total) | {
            "config_id": total.config_id,
            "device": total.device,
            "hardest": json_text(hardest_examples(total)),
            "excluded": json_text(excluded_examples(total)),
            **warnings_metadata(total),
        }
        content = self._write(self._empty(), metadata)
        self._writer.close()
        return content + self._drain()

    def failure(self, error: LossServiceError) -> bytes:
        """The last bytes of a stream after an error: the problem, without an end-of-stream marker."""
        return self._write(self._empty(), {"error": json_text(error.problem())})

    def _empty(self) -> pa.RecordBatch:
        return pa.record_batch([pa.array([], field.type) for field in self._schema], schema=self._schema)

    def _identity(self, result: BatchResult) -> pa.Array:
        field = self._schema.field(0)
        if field.name == "index":
            return pa.array(np.arange(result.num_examples))
        ids: Sequence[str | int | None] = result.ids if result.ids is not None else [None] * result.num_examples
        if pa.types.is_string(field.type):
            ids = [None if identity is None else str(identity) for identity in ids]
        return pa.array(ids, field.type)

    def _write(self, batch: pa.RecordBatch, metadata: dict[str, str]) -> bytes:
        self._writer.write_batch(batch, custom_metadata=metadata)
        return self._drain()

    def _drain(self) -> bytes:
        content = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return content


def _counts(result: BatchResult | LossResult) -> dict[str, str]:
    return {
        "loss": json_text(result.loss),
        "num_examples": str(result.num_examples),
        "num_ignored": str(result.num_ignored),
        "num_excluded": str(result.num_excluded),
        "num_elements": str(result.num_elements),
    }


def _column(result: BatchResult, field: pa.Field) -> pa.Array:
    name = field.name
    if name == REGIONS:
        return regions_column(result)
    if name.startswith(PREFIX):
        return nested_column(result.per_element[name.removeprefix(PREFIX)], result.offsets, field.type)
    return nested_column(result.per_example[name], None, field.type)
