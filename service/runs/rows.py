"""From a batch and its result to the rows that are kept of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.runs.incoming import Incoming
from service.runs.schema import SCHEMA, SCORES
from service.schema.result import BatchResult

KEPT_OUTPUTS = (*SCORES, "prediction")


def content_digest(batches: Sequence[Incoming]) -> str:
    """What two sendings of the same rows have in common, in whatever format and split: 64 hex digits.

    Files keep it, so the bytes that it is of never change.
    """
    logits, targets, texts = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for one in batches:
        if len(one.logits):
            logits.update(one.logits.data)
            # float64 holds every class index, and sigmoid targets of any dtype.
            targets.update(one.batch.targets.ravel().astype(np.float64).data)
            for part in _pairs(one):
                texts.update(part)
    return hashlib.sha256(logits.digest() + targets.digest() + texts.digest()).hexdigest()


def _pairs(one: Incoming) -> Iterator[bytes | pa.Buffer]:
    """`["id",attributes],` of each row as JSON, in pieces."""
    if one.attributes is None and not _escapes(one.ids):
        whole = pa.ListArray.from_arrays(pa.array([0, len(one.ids)], pa.int32()), one.ids)
        yield from (b'["', pc.binary_join(whole, '",null],["')[0].as_buffer(), b'",null],')
        return
    attributes = pa.nulls(len(one.ids), pa.string()) if one.attributes is None else one.attributes
    yield from (orjson.dumps([*zip(one.ids.to_pylist(), attributes.to_pylist(), strict=True)])[1:-1], b",")


def _escapes(texts: pa.StringArray) -> bool:
    """Whether JSON writes any of the texts otherwise than between two quotes."""
    characters = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    return bool(((characters < ord(" ")) | (characters == ord('"')) | (characters == ord("\\"))).any())


def stored_rows(
    epoch: int, name: str, batches: Sequence[Incoming], results: Sequence[BatchResult], *, store_logits: bool
) -> pa.Table:
    """The rows that count, in the order sent; those that are ignored or excluded have no label to look at."""
    first, tables = 0, []
    for one, result in zip(batches, results, strict=True):
        tables.append(_rows(epoch, name, first, one, result, store_logits=store_logits))
        first += one.batch.num_examples
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


# A score past float32 is infinite in its column, as IEEE 754 rounds it.
@np.errstate(over="ignore")
def _rows(epoch: int, name: str, first: int, one: Incoming, result: BatchResult, *, store_logits: bool) -> pa.Table:
    columns = result.per_example
    counted = np.flatnonzero(~np.isnan(columns["log_odds"]))
    number = len(counted)
    # Where every row counts, as in most batches, the columns are kept as they are.
    kept = slice(None) if number == len(one.ids) else counted
    arrays = {
        "epoch": pa.array(np.full(number, epoch, np.int32)),
        "batch": pa.repeat(pa.scalar(name, pa.string()), number),
        "row": pa.array((counted + first).astype(np.int32)),
        "id": _taken(one.ids, kept),
        "target": pa.array(one.batch.targets.ravel()[kept].astype(np.int32)),
        "prediction": pa.array(columns["prediction"][kept].astype(np.int32)),
        **{score: pa.array(columns[score][kept].astype(np.float32, copy=False)) for score in SCORES},
        "logits": _lists(one.logits[kept]) if store_logits else pa.nulls(number, SCHEMA.field("logits").type),
        "attributes": pa.nulls(number, pa.string()) if one.attributes is None else _taken(one.attributes, kept),
    }
    return pa.table(arrays, schema=SCHEMA)


def _taken(texts: pa.StringArray, kept: slice | np.ndarray[Any, np.dtype[np.intp]]) -> pa.StringArray:
    return texts if isinstance(kept, slice) else texts.take(pa.array(kept))


def _lists(values: np.ndarray[Any, np.dtype[np.float32]]) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, max(1, values.shape[1]), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
