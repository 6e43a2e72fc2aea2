"""Validates batches for storage in a run, and converts them to Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.labels import ClassNames
from service.formats.targets import with_classes, with_numeric_targets
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.request import Batch, Ids

MAX_ID_CHARACTERS = 1000
# Statistics of the content of a batch; normalized_margin follows from them.
DIGESTED = ("log_odds", "prediction", "entropy", "logit_margin", "el2n")


@dataclass(frozen=True, eq=False)
class RunBatch:
    """A batch for storage in a run, with its columns as they are stored.

    Args:
        source: The decoded batch with numbers as targets; its shapes are not checked yet.
        ids: Id of each row as text.
        attributes: Attributes of each row as the text of a JSON object; None if the batch has none.
    """

    source: Batch
    ids: pa.StringArray
    attributes: pa.StringArray | None

    @cached_property
    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(N, C) float32, contiguous; a sigmoid logit x becomes [0, x], two classes with the same probabilities.

        A finite float64 beyond float32 becomes the largest float32: only infinite logits stay infinite.
        """
        original = self.source.logits
        with np.errstate(over="ignore"):
            logits = original.astype(np.float32)
        if original.dtype == np.float64:
            largest = np.finfo(np.float32).max
            logits = np.where(np.isfinite(original), logits.clip(-largest, largest), logits)
        if _is_one_logit(self.source):
            positive = logits.reshape(-1)
            logits = np.stack([np.zeros_like(positive), positive], axis=1)
        return np.ascontiguousarray(logits)

    @property
    def is_reduced(self) -> bool:
        """True if the batch has statistics in place of logits."""
        return self.source.statistics is not None

    @property
    def statistics(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(N, 5) float64, contiguous: the statistics of DIGESTED as they are stored."""
        statistics = self.source.statistics or {}
        with np.errstate(over="ignore"):
            columns = [statistics[name].astype(np.float64 if name == "prediction" else np.float32) for name in DIGESTED]
        values = np.stack(columns, axis=1, dtype=np.float64)
        # Excluded rows may have NaN, of which there are many.
        values[np.isnan(values)] = np.nan
        return values

    @property
    def num_classes(self) -> int | None:
        """Number of classes C of the logits; None for a batch with statistics."""
        if self.is_reduced:
            return None
        return 2 if _is_one_logit(self.source) else int(self.source.logits.shape[1])


def check_batches(
    config: LossConfig, batches: Sequence[Batch], names: ClassNames | None = None, *, exclude: bool = False
) -> tuple[RunBatch, ...]:
    """Validate the batches of a request for a run, and convert their targets to numbers.

    In sigmoid mode log-odds become logits, which follow from them.

    Args:
        config: Configuration of the run.
        batches: The decoded batches.
        names: Names of the classes of the run.
        exclude: Targets that are no labels become invalid numbers instead of errors.

    Raises:
        InvalidIdsError: A batch has no ids, an id is empty or too long, or two ids are equal as texts.
        ShapeError: An example has several labels, or the number of values of an attribute is not the number of rows.
        InvalidTargetError: A target is no label, or a sigmoid target lies between 0 and 1.
        InvalidRequestError: Some batches have logits, others statistics.
    """
    batches = [
        with_numeric_targets(batch, number, config.mode, names=names, exclude=exclude)
        for number, batch in enumerate(batches)
    ]
    if config.mode == "sigmoid":
        batches = list(map(_with_logits, batches))
    _check_columns(batches)
    for number, batch in enumerate(batches):
        if config.mode == "sigmoid":
            _check_binary(config, number, batch)
        elif batch.targets.ndim != 1:
            msg = f"a run stores one class of each example: targets (N,), got shape {list(batch.targets.shape)}"
            raise fault(ShapeError, msg, "targets", batch=number)
    return _with_columns(batches)


def check_structured_batches(
    config: LossConfig, batches: Sequence[Batch], names: ClassNames | None = None, *, exclude: bool = False
) -> tuple[RunBatch, ...]:
    """Validate the ids and attributes of the batches of a request for a run of structured examples.

    The names of classes become numbers; everything else about targets and logits is checked when they are computed.

    Args:
        config: Configuration of the run.
        batches: The decoded batches.
        names: Names of the classes of the run; None for numbers only.
        exclude: Targets that are no labels become invalid numbers instead of errors.

    Raises:
        InvalidIdsError: A batch has no ids, an id is empty or too long, or two ids are equal as texts.
        ShapeError: The number of values of an attribute is not the number of examples.
        InvalidTargetError: A target is no label; names batch, example and element.
        InvalidRequestError: Some batches have logits, others statistics.
    """
    if config.mode == "softmax" and names is not None:
        batches = [with_classes(batch, number, names, exclude=exclude) for number, batch in enumerate(batches)]
    _check_columns(batches)
    return _with_columns(batches)


def _check_columns(batches: Sequence[Batch]) -> None:
    if len({batch.statistics is None for batch in batches}) > 1:
        raise InvalidRequestError("a request for a run has either logits or statistics in all of its batches")
    for number, batch in enumerate(batches):
        if batch.ids is None:
            detail = "ids missing; a run identifies its examples by them"
            raise fault(InvalidIdsError, "missing", "ids", batch=number, detail=detail)
        for name, values in (batch.attributes or {}).items():
            if len(values) != batch.num_examples:
                msg = f"attribute {name[:100]!r} has {len(values)} values for {batch.num_examples} rows"
                raise fault(ShapeError, msg, "attributes", name[:100], batch=number)


def _with_columns(batches: Sequence[Batch]) -> tuple[RunBatch, ...]:
    checked = tuple(RunBatch(batch, _texts(batch.ids or ()), _attributes(batch)) for batch in batches)
    _check_ids(batches, pa.chunked_array([batch.ids for batch in checked], pa.string()))
    return checked


def _with_logits(batch: Batch) -> Batch:
    """The batch of binary labels with logits instead of log-odds z = (2 y - 1) x; unchanged if the loss rejects it."""
    log_odds = (batch.statistics or {}).get("log_odds")
    if log_odds is None or batch.logits.size or log_odds.shape != batch.targets.shape:
        return batch
    return replace(batch, logits=np.where(batch.targets > 0.5, log_odds, -log_odds), statistics=None)


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
    # An id has at most as many characters as bytes: ids that are short in bytes need no further check.
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
                raise fault(InvalidIdsError, msg + "ids as text", "ids", batch=number, row=row)
            if not 0 < len(identity) <= MAX_ID_CHARACTERS:
                msg = f"an id has 1 to {MAX_ID_CHARACTERS} characters, got {len(identity)}"
                raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)


def _check_binary(config: LossConfig, number: int, batch: Batch) -> None:
    if batch.logits.ndim > 1 and batch.logits.shape[1] != 1:
        msg = f"a run stores one label per example, these have {batch.logits.shape[1]}"
        raise fault(ShapeError, msg, "logits", batch=number)
    targets = batch.targets.ravel().astype(np.float64)
    soft = (targets != 0) & (targets != 1) & (targets >= 0) & (targets <= 1)
    if config.ignore_index is not None:
        soft &= targets != config.ignore_index
    if soft.any():
        row = int(soft.argmax())
        msg = f"a run stores hard labels, but {targets[row].item()} is neither 0 nor 1"
        raise fault(InvalidTargetError, msg, "targets", batch=number, row=row)


def _is_one_logit(batch: Batch) -> bool:
    return batch.logits.ndim == 1 or batch.logits.shape[1] == 1
