"""From a batch and its result to the rows that are kept of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import torch

from service.errors import InvalidIdsError, InvalidTargetError, ShapeError
from service.messages import Batch, BatchResult, LossConfig
from service.runs.schema import SCHEMA, SCORES

KEPT_OUTPUTS = (*SCORES, "prediction")
MAX_ID_CHARACTERS = 1000


def check_rows(config: LossConfig, batches: Sequence[Batch]) -> None:
    """Raise where a run cannot keep a batch that `/loss` would take.

    Raises:
        InvalidIdsError: A batch has no ids, or one that is too long or empty; or two are one as text.
        ShapeError: An example has several labels, or an attribute has another number of values than there are rows.
        InvalidTargetError: A sigmoid target is neither 0 nor 1.
    """
    for number, batch in enumerate(batches):
        if batch.ids is None:
            raise InvalidIdsError(
                f"batch {number}: ids missing; a run knows its examples by them",
                errors=[{"loc": ["batches", number, "ids"], "msg": "missing"}],
            )
        for name, values in (batch.attributes or {}).items():
            if len(values) != batch.num_examples:
                msg = f"attribute {name[:100]!r} has {len(values)} values for {batch.num_examples} rows"
                raise ShapeError(
                    f"batch {number}: {msg}",
                    errors=[{"loc": ["batches", number, "attributes", name[:100]], "msg": msg}],
                )
        if config.mode == "sigmoid":
            _check_binary(config, number, batch)
    texts = [str(identity) for batch in batches for identity in batch.ids or ()]
    if len(set(texts)) < len(texts) or not all(0 < len(text) <= MAX_ID_CHARACTERS for text in texts):
        _refuse_ids(batches)


def _refuse_ids(batches: Sequence[Batch]) -> None:
    seen: dict[str, tuple[int, int]] = {}
    for number, batch in enumerate(batches):
        for row, identity in enumerate(map(str, batch.ids or ())):
            earlier = seen.setdefault(identity, (number, row))
            if earlier != (number, row):
                msg = f"id {identity[:100]!r} is already that of batch {earlier[0]}, row {earlier[1]}; a run compares "
                raise _id_error(number, row, msg + "ids as text")
            if not 0 < len(identity) <= MAX_ID_CHARACTERS:
                raise _id_error(number, row, f"an id has 1 to {MAX_ID_CHARACTERS} characters, got {len(identity)}")


def _id_error(number: int, row: int, msg: str) -> InvalidIdsError:
    return InvalidIdsError(
        f"batch {number}, row {row}: {msg}", errors=[{"loc": ["batches", number, "ids", row], "msg": msg}]
    )


def _check_binary(config: LossConfig, number: int, batch: Batch) -> None:
    if batch.logits.dim() > 1 and batch.logits.shape[1] != 1:
        msg = f"a run keeps one label for each example, these have {batch.logits.shape[1]}"
        raise ShapeError(f"batch {number}: {msg}", errors=[{"loc": ["batches", number, "logits"], "msg": msg}])
    targets = batch.targets.flatten().double()
    soft = (targets != 0) & (targets != 1) & (targets >= 0) & (targets <= 1)
    if config.ignore_index is not None:
        soft &= targets != config.ignore_index
    if soft.any():
        row = int(torch.nonzero(soft)[0])
        msg = f"a run keeps labels, and {targets[row].item()} is neither 0 nor 1"
        raise InvalidTargetError(
            f"batch {number}, row {row}: {msg}", errors=[{"loc": ["batches", number, "targets", row], "msg": msg}]
        )


def num_classes(batch: Batch) -> int:
    """C of `class_logits`."""
    return 2 if _is_one_logit(batch) else int(batch.logits.shape[1])


def _is_one_logit(batch: Batch) -> bool:
    return batch.logits.dim() == 1 or batch.logits.shape[1] == 1


def class_logits(batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits (N, C) in float32; a sigmoid logit x is the two classes [0, x], which have its probabilities.

    What float64 holds and float32 does not becomes the largest number of float32: infinite is only what came so.
    """
    logits = batch.logits.float()
    if batch.logits.dtype == torch.float64:
        largest = torch.finfo(torch.float32).max
        logits = torch.where(batch.logits.isfinite(), logits.clamp(-largest, largest), logits)
    if _is_one_logit(batch):
        positive = logits.reshape(-1)
        logits = torch.stack([torch.zeros_like(positive), positive], dim=1)
    return logits.numpy()


def attribute_texts(batch: Batch) -> list[str] | None:
    """The attributes of each example as a JSON object, None where the batch has none."""
    if not batch.attributes:
        return None
    names = list(batch.attributes)
    return [
        orjson.dumps(
            {name: value for name, value in zip(names, values, strict=True) if value is not None},
            option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS,
            default=str,
        ).decode()
        for values in zip(*batch.attributes.values(), strict=True)
    ]


def content_digest(batches: Sequence[Batch]) -> str:
    """What two sendings of the same rows have in common, in whatever format and split: 64 hex digits."""
    logits, targets, texts = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for batch in batches:
        values = np.ascontiguousarray(class_logits(batch))
        if len(values):
            logits.update(values.data)
            # float64 holds every class index, and sigmoid targets of any dtype.
            targets.update(batch.targets.flatten().double().numpy().data)
            attributes: Sequence[str | None] = attribute_texts(batch) or [None] * len(values)
            texts.update(orjson.dumps([*zip(map(str, batch.ids or ()), attributes, strict=True)])[1:-1] + b",")
    return hashlib.sha256(logits.digest() + targets.digest() + texts.digest()).hexdigest()


def stored_rows(
    epoch: int, name: str, batches: Sequence[Batch], results: Sequence[BatchResult], *, store_logits: bool
) -> pa.Table:
    """The rows that count, in the order sent; those that are ignored or excluded have no label to look at."""
    first, tables = 0, []
    for batch, result in zip(batches, results, strict=True):
        tables.append(_rows(epoch, name, first, batch, result, store_logits=store_logits))
        first += batch.num_examples
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


# A score past float32 is infinite in its column, as IEEE 754 rounds it.
@np.errstate(over="ignore")
def _rows(epoch: int, name: str, first: int, batch: Batch, result: BatchResult, *, store_logits: bool) -> pa.Table:
    columns = result.per_example
    counted = np.flatnonzero(~np.isnan(columns["log_odds"]))
    attributes = attribute_texts(batch)
    logits = pa.nulls(len(counted), SCHEMA.field("logits").type)
    if store_logits:
        values = class_logits(batch)[counted]
        offsets = np.arange(0, values.size + 1, max(1, values.shape[1]), dtype=np.int32)
        logits = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
    ids = batch.ids or ()
    arrays = {
        "epoch": pa.array(np.full(len(counted), epoch, np.int32)),
        "batch": pa.array([name] * len(counted), pa.string()),
        "row": pa.array((counted + first).astype(np.int32)),
        "id": pa.array([str(ids[row]) for row in counted.tolist()], pa.string()),
        "target": pa.array(batch.targets.flatten().numpy()[counted].astype(np.int32)),
        "prediction": pa.array(columns["prediction"][counted].astype(np.int32)),
        **{score: pa.array(columns[score][counted].astype(np.float32)) for score in SCORES},
        "logits": logits,
        "attributes": pa.array(
            None if attributes is None else [attributes[row] for row in counted.tolist()], pa.string()
        )
        if attributes is not None
        else pa.nulls(len(counted), pa.string()),
    }
    return pa.table(arrays, schema=SCHEMA)
