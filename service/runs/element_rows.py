"""Conversion of structured examples to stored rows, and the digest of these."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from service.runs.ingest import RunBatch
from service.runs.rows import text_pairs
from service.runs.schema import ELEMENT_SCHEMA, SCORES
from service.schema.result import BatchResult
from service.schema.structure import Lists

# Outputs of the examples that are stored, where they follow from what was sent.
STORED_SCORES = (*SCORES, "label_quality")
# Columns that the digest of a batch covers; the others follow from them, but for the scores of examples. Log-odds are
# not exactly the same if the same logits come in another dtype.
_WITH_LOGITS = ("shape", "targets", "element_logits")
_WITHOUT_LOGITS = ("shape", "targets", "predictions", "element_log_odds", "element_counts")


def stored_element_rows(
    epoch: int,
    name: str,
    batches: Sequence[RunBatch],
    results: Sequence[BatchResult],
    lists: Sequence[Mapping[str, Lists]],
) -> pa.Table:
    """The rows to store, in the order of the request, without ignored and excluded examples.

    Args:
        epoch: Epoch of the batch.
        name: Name of the batch.
        batches: The batches of the request.
        results: Their results, with `num_valid` and those of STORED_SCORES that follow from what was sent.
        lists: Their columns of lists.
    """
    first, tables = 0, []
    for batch, result, columns in zip(batches, results, lists, strict=True):
        tables.append(_rows(epoch, name, first, batch, result, columns))
        first += batch.source.num_examples
    return pa.concat_tables(tables) if tables else ELEMENT_SCHEMA.empty_table()


@np.errstate(over="ignore")
def _rows(
    epoch: int, name: str, first: int, batch: RunBatch, result: BatchResult, lists: Mapping[str, Lists]
) -> pa.Table:
    scores = result.per_example
    num_valid = scores["num_valid"]
    number = len(num_valid)
    unknown = np.full(number, np.nan)
    arrays: dict[str, pa.Array] = {
        "epoch": pa.array(np.full(number, epoch, np.int32)),
        "batch": pa.repeat(pa.scalar(name, pa.string()), number),
        "row": pa.array(np.arange(first, first + number, dtype=np.int32)),
        "id": batch.ids,
        "num_valid": pa.array(num_valid.astype(np.int32)),
        **{score: pa.array(scores.get(score, unknown).astype(np.float32)) for score in STORED_SCORES},
        **{column: _list_array(column, values) for column, values in lists.items()},
        "attributes": pa.nulls(number, pa.string()) if batch.attributes is None else batch.attributes,
    }
    for column in ("element_counts", "element_logits"):
        if column not in arrays:
            arrays[column] = pa.nulls(number, ELEMENT_SCHEMA.field(column).type)
    return pa.table(arrays, schema=ELEMENT_SCHEMA).filter(pa.array(num_valid > 0))


def _list_array(name: str, lists: Lists) -> pa.ListArray:
    values = pa.array(lists.values.astype(ELEMENT_SCHEMA.field(name).type.value_type.to_pandas_dtype(), copy=False))
    return pa.ListArray.from_arrays(pa.array(lists.offsets.astype(np.int32)), values)


class ElementDigest:
    """SHA-256 of the stored rows of a batch, independent of the format and the split of the request.

    It covers ids, attributes, targets and logits, or predictions and log-odds where logits are not stored. Data files
    store the digest, so the bytes that it is computed from must never change.
    """

    def __init__(self) -> None:
        names = dict.fromkeys((*_WITH_LOGITS, *_WITHOUT_LOGITS, "axes", "texts"))
        self._parts = {name: hashlib.sha256() for name in names}

    def update(self, rows: pa.RecordBatch) -> None:
        """Add stored rows."""
        if not len(rows):
            return
        for name in _WITHOUT_LOGITS if rows["element_logits"].null_count else _WITH_LOGITS:
            self._parts[name].update(_values(rows[name]).data)
        self._parts["axes"].update(rows["shape"].value_lengths().to_numpy(zero_copy_only=False).astype(np.int32).data)
        for part in text_pairs(rows["id"], rows["attributes"] if rows["attributes"].null_count < len(rows) else None):
            self._parts["texts"].update(part)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(b"".join(part.digest() for part in self._parts.values())).hexdigest()


def element_digest(rows: Iterable[pa.RecordBatch]) -> str:
    """The digest of the rows of a batch."""
    digest = ElementDigest()
    for part in rows:
        digest.update(part)
    return digest.hexdigest()


def _values(column: pa.ListArray) -> np.ndarray[Any, np.dtype[Any]]:
    """The values of all lists."""
    return np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False))
