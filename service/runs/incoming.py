"""What comes in for a run: what it cannot keep is refused, and the rest stands in columns, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import InvalidIdsError, InvalidTargetError, ShapeError
from service.schema.config import LossConfig
from service.schema.request import Batch, Ids

MAX_ID_CHARACTERS = 1000


@dataclass(frozen=True, eq=False)
class Incoming:
    """A batch that a run may keep, and its columns as they are kept.

    Args:
        batch: As decoded; its shapes are still unchecked.
        ids: As text.
        attributes: Those of each example as a JSON object, None where the batch has none.
    """

    batch: Batch
    ids: pa.StringArray
    attributes: pa.StringArray | None

    @cached_property
    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(N, C) in float32, contiguous; a sigmoid logit x is the two classes [0, x], which have its probabilities.

        What float64 holds and float32 does not becomes the largest number of float32: infinite is only what came so.
        """
        given = self.batch.logits
        with np.errstate(over="ignore"):
            logits = given.astype(np.float32)
        if given.dtype == np.float64:
            largest = np.finfo(np.float32).max
            logits = np.where(np.isfinite(given), logits.clip(-largest, largest), logits)
        if _is_one_logit(self.batch):
            positive = logits.reshape(-1)
            logits = np.stack([np.zeros_like(positive), positive], axis=1)
        return np.ascontiguousarray(logits)

    @property
    def num_classes(self) -> int:
        """C of `logits`."""
        return 2 if _is_one_logit(self.batch) else int(self.batch.logits.shape[1])


def incoming(config: LossConfig, batches: Sequence[Batch]) -> tuple[Incoming, ...]:
    """The batches as a run takes them; all of their ids differ.

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
    taken = tuple(Incoming(batch, _texts(batch.ids or ()), _attributes(batch)) for batch in batches)
    _check_ids(batches, pa.chunked_array([one.ids for one in taken], pa.string()))
    return taken


def _texts(ids: Ids) -> pa.StringArray:
    try:
        return pa.array(ids, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.array([str(identity) for identity in ids], pa.string())


def _attributes(batch: Batch) -> pa.StringArray | None:
    if not batch.attributes:
        return None
    names = list(batch.attributes)
    texts = [
        orjson.dumps(
            {name: value for name, value in zip(names, values, strict=True) if value is not None},
            option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS,
            default=str,
        ).decode()
        for values in zip(*batch.attributes.values(), strict=True)
    ]
    return pa.array(texts, pa.string())


def _check_ids(batches: Sequence[Batch], ids: pa.ChunkedArray) -> None:
    # In bytes, which are at least as many as the characters: what is short enough here needs no second look.
    lengths = pc.min_max(pc.binary_length(ids)).as_py()
    short = not len(ids) or 0 < lengths["min"] <= lengths["max"] <= MAX_ID_CHARACTERS
    if short and len(pc.unique(ids)) == len(ids):
        return
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
    if batch.logits.ndim > 1 and batch.logits.shape[1] != 1:
        msg = f"a run keeps one label for each example, these have {batch.logits.shape[1]}"
        raise ShapeError(f"batch {number}: {msg}", errors=[{"loc": ["batches", number, "logits"], "msg": msg}])
    targets = batch.targets.ravel().astype(np.float64)
    soft = (targets != 0) & (targets != 1) & (targets >= 0) & (targets <= 1)
    if config.ignore_index is not None:
        soft &= targets != config.ignore_index
    if soft.any():
        row = int(soft.argmax())
        msg = f"a run keeps labels, and {targets[row].item()} is neither 0 nor 1"
        raise InvalidTargetError(
            f"batch {number}, row {row}: {msg}", errors=[{"loc": ["batches", number, "targets", row], "msg": msg}]
        )


def _is_one_logit(batch: Batch) -> bool:
    return batch.logits.ndim == 1 or batch.logits.shape[1] == 1
