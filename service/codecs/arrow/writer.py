"""Writes results as an Arrow IPC stream: a record batch per batch, then one without rows for the totals."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from service.codecs.json_reply import excluded_examples, hardest_examples, json_text, warnings_metadata
from service.errors import LossServiceError
from service.schema.request import Column
from service.schema.result import BatchResult, LossResult


class ArrowResultWriter:
    """Encodes results as the bytes of a stream, piece by piece.

    Args:
        outputs: The columns after `id` or `index`.
        id_type: Type of the `id` column; None: a column `index` with the position in the batch instead.
        float_type: float32 or float64.
        many_labels: A prediction is a list with one value per label.
    """

    def __init__(
        self, outputs: Sequence[str], *, id_type: pa.DataType | None, float_type: pa.DataType, many_labels: bool
    ) -> None:
        identity = pa.field("index", pa.int64()) if id_type is None else pa.field("id", id_type)
        prediction = pa.list_(pa.int64()) if many_labels else pa.int64()
        columns = [
            pa.field(name, prediction if name == "prediction" else float_type) for name in dict.fromkeys(outputs)
        ]
        self._schema = pa.schema([identity, *columns])
        self._buffer = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._buffer, self._schema)

    def batch(self, result: BatchResult) -> bytes:
        """The next bytes: a record batch; its custom metadata has the loss and the counts."""
        arrays = [self._identity(result)]
        arrays += [_column(result.per_example[field.name], field.type) for field in list(self._schema)[1:]]
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
    }


def _column(values: Column, kind: pa.DataType) -> pa.Array:
    """A column with null for NaN and for a prediction of -1; infinities stay."""
    missing = values < 0 if values.dtype.kind == "i" else np.isnan(values)
    if not pa.types.is_list(kind):
        return pa.array(values, mask=missing).cast(kind)
    rows, labels = len(values), values.shape[1] if values.ndim > 1 else 1
    offsets = np.arange(rows + 1, dtype=np.int32) * labels
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), mask=missing.ravel()))
