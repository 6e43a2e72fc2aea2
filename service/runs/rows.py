"""Conversion of a batch and its result to stored rows, and the digest of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.runs.ingest import DIGESTED, RunBatch
from service.runs.schema import SCHEMA, SCORES
from service.schema.result import BatchResult

STORED_OUTPUTS = (*SCORES, "prediction")


class ContentDigest:
    """SHA-256 of the content of a batch, independent of format and split: ids, attributes, targets and numbers.

    The numbers are logits or statistics. Data files store the digest, so the bytes that it is computed from must never
    change.

    Args:
        of_statistics: True for a batch with statistics, whose digest is never that of one with logits.
    """

    def __init__(self, *, of_statistics: bool = False) -> None:
        self._numbers = hashlib.sha256(b"statistics" if of_statistics else b"")
        self._targets, self._texts = hashlib.sha256(), hashlib.sha256()

    def update(
        self,
        numbers: np.ndarray[Any, Any],
        targets: np.ndarray[Any, Any],
        ids: pa.StringArray,
        attributes: pa.StringArray | None,
    ) -> None:
        """Add rows: numbers (N, C) or flat, contiguous; targets (N,) of any dtype; ids and attributes as stored."""
        if len(ids):
            self._numbers.update(numbers.data)
            # float64 represents every class index, and sigmoid targets of any dtype.
            self._targets.update(targets.astype(np.float64).data)
            for part in text_pairs(ids, attributes):
                self._texts.update(part)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(self._numbers.digest() + self._targets.digest() + self._texts.digest()).hexdigest()


def content_digest(batches: Sequence[RunBatch]) -> str:
    """The digest of a request's batches."""
    digest = ContentDigest(of_statistics=any(batch.is_reduced for batch in batches))
    for batch in batches:
        digest.update(
            batch.statistics if batch.is_reduced else batch.logits,
            batch.source.targets.ravel(),
            batch.ids,
            batch.attributes,
        )
    return digest.hexdigest()


def stored_statistics(rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`RunBatch.statistics` of stored rows."""
    return np.stack([rows[name].to_numpy().astype(np.float64) for name in DIGESTED], axis=1)


def text_pairs(ids: pa.StringArray, attributes: pa.StringArray | None) -> Iterator[bytes | pa.Buffer]:
    """Yield the JSON text `["id",attributes],` of each row, in pieces."""
    if attributes is None and not _needs_escapes(ids):
        whole = pa.ListArray.from_arrays(pa.array([0, len(ids)], pa.int32()), ids)
        yield from (b'["', pc.binary_join(whole, '",null],["')[0].as_buffer(), b'",null],')
        return
    attributes = pa.nulls(len(ids), pa.string()) if attributes is None else attributes
    yield from (orjson.dumps([*zip(ids.to_pylist(), attributes.to_pylist(), strict=True)])[1:-1], b",")


def _needs_escapes(texts: pa.StringArray) -> bool:
    """True if JSON escapes a character of a text."""
    characters = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    return bool(((characters < ord(" ")) | (characters == ord('"')) | (characters == ord("\\"))).any())


def stored_rows(
    epoch: int, name: str, batches: Sequence[RunBatch], results: Sequence[BatchResult], *, store_logits: bool
) -> pa.Table:
    """The rows to store, in the order of the request, without ignored and excluded rows, which have no valid label."""
    first, tables = 0, []
    for batch, result in zip(batches, results, strict=True):
        tables.append(_rows(epoch, name, first, batch, result, store_logits=store_logits))
        first += batch.source.num_examples
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


# A score beyond the range of float32 becomes infinite.
@np.errstate(over="ignore")
def _rows(epoch: int, name: str, first: int, batch: RunBatch, result: BatchResult, *, store_logits: bool) -> pa.Table:
    columns, has_logits = result.per_example, store_logits and not batch.is_reduced
    valid = np.flatnonzero(~np.isnan(columns["log_odds"]))
    number = len(valid)
    # In most batches every row is valid; then the columns are not copied.
    rows = slice(None) if number == len(batch.ids) else valid
    arrays = {
        "epoch": pa.array(np.full(number, epoch, np.int32)),
        "batch": pa.repeat(pa.scalar(name, pa.string()), number),
        "row": pa.array((valid + first).astype(np.int32)),
        "id": _select(batch.ids, rows),
        "target": pa.array(batch.source.targets.ravel()[rows].astype(np.int32)),
        "prediction": pa.array(columns["prediction"][rows].astype(np.int32)),
        **{score: pa.array(columns[score][rows].astype(np.float32, copy=False)) for score in SCORES},
        "logits": _lists(batch.logits[rows]) if has_logits else pa.nulls(number, SCHEMA.field("logits").type),
        "attributes": pa.nulls(number, pa.string()) if batch.attributes is None else _select(batch.attributes, rows),
    }
    return pa.table(arrays, schema=SCHEMA)


def _select(texts: pa.StringArray, rows: slice | np.ndarray[Any, np.dtype[np.intp]]) -> pa.StringArray:
    return texts if isinstance(rows, slice) else texts.take(pa.array(rows))


def _lists(values: np.ndarray[Any, np.dtype[np.float32]]) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, max(1, values.shape[1]), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
