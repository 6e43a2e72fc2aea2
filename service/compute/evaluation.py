"""Evaluation of a decoded request: shapes, bad rows, reductions, contributions and the hardest examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.compute.device import Device
from service.compute.input_checks import look_like_probabilities, probabilities_warning
from service.errors import (
    InvalidIdsError,
    InvalidLogitError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.formats.labels import NO_TARGET
from service.formats.targets import numeric_targets
from service.loss.focal import FocalLoss
from service.loss.row_state import BAD_TARGET, COUNTED, IGNORED
from service.loss.scores import Scores
from service.schema.config import LossConfig, Reduction
from service.schema.faults import fault
from service.schema.request import Batch, Column, LossRequest, RequestOptions
from service.schema.result import (
    EXCLUDED_LISTED,
    BatchResult,
    Excluded,
    HardExample,
    LossResult,
    Totals,
    divisor,
    reduced,
)

ERRORS_NAMED = 20


@dataclass(frozen=True)
class Limits:
    """Limits of a request's size.

    Args:
        max_elements: Largest number of logits in one batch.
        max_examples: Largest number of rows in one request.
    """

    max_elements: int
    max_examples: int


def evaluate(
    device: Device, module: FocalLoss, request: LossRequest, limits: Limits, *, unique_ids: bool = False
) -> LossResult:
    """Check the limits, shapes and ids of all batches of a request, then compute it.

    Args:
        device: Device to compute on.
        module: The configured loss, on this device.
        request: The decoded request, unchecked.
        limits: Limits of the request's size.
        unique_ids: True to skip the check that its ids are unique.

    Raises:
        TooManyExamplesError: The request has more rows than the limit.
        InvalidIdsError: An id occurs twice.
        Also the errors of `Evaluation.add`.
    """
    evaluation = Evaluation(device, module, request.options, limits)
    total = sum(batch.num_examples for batch in request.batches)
    if total > limits.max_examples:
        raise TooManyExamplesError(f"the request has {total} rows, the limit is {limits.max_examples} (max_examples)")
    shaped = [
        _shaped(module.config, request.options, limits, number, batch) for number, batch in enumerate(request.batches)
    ]
    if not unique_ids:
        check_ids(request.batches)
    return evaluation.result(tuple(map(evaluation.add_shaped, request.batches, shaped)))


class Evaluation:
    """Computes a request batch by batch; its memory does not grow with the number of batches.

    Args:
        device: Device to compute on.
        module: The configured loss, on this device.
        options: Options of the request.
        limits: Limits of a batch's size.
    """

    def __init__(self, device: Device, module: FocalLoss, options: RequestOptions, limits: Limits) -> None:
        self._device = device
        self._module = module
        self._options = options
        self._limits = limits
        self._totals = Totals(module.config.reduction, options.top_k, module.config.config_id, device.name)

    def add(self, batch: Batch) -> BatchResult:
        """Compute the next batch. `check_ids` checks that its ids are unique.

        Raises:
            TooManyElementsError: The batch is larger than the limit.
            ShapeError: Shapes or lengths do not match each other or the configuration.
            InvalidLogitError: A logit is invalid, and `on_invalid` is `error`; names batch, row, column and value.
            InvalidTargetError: The same for a target.
            DeviceOutOfMemoryError: Not even one row fits into memory.
        """
        shaped = _shaped(self._module.config, self._options, self._limits, self._totals.num_batches, batch)
        return self.add_shaped(batch, shaped)

    def add_shaped(self, batch: Batch, shaped: tuple[Column, Column]) -> BatchResult:
        """`add` for checked logits (N, C) or (N, L) and targets (N,) or (N, L)."""
        number, config = self._totals.num_batches, self._module.config
        logits, targets = shaped
        scores = self._device.score(self._module, logits, targets, self._options.outputs)
        bad = (scores.state >= BAD_TARGET).nonzero()[0].tolist()
        if bad and self._options.on_invalid == "error":
            raise _invalid_rows_error(config, number, bad, logits, targets)
        listed = (
            (row, _invalid_row_error(config, number, row, logits[row], targets[row]))
            for row in bad[: EXCLUDED_LISTED - len(self._totals.excluded)]
        )
        excluded = [Excluded(number, row, _id(batch, row), error.code, error.detail) for row, error in listed]
        result, columns = _reduced_batch(batch, scores, config.reduction, self._options.outputs, len(bad))
        if config.mode == "softmax" and look_like_probabilities(logits):
            result = replace(result, warnings=(probabilities_warning(number),))
        self._totals.add(result, _hardest(number, batch, scores, columns, self._options.top_k), excluded)
        return result

    def result(self, batches: tuple[BatchResult, ...] = ()) -> LossResult:
        """The result of the request so far: the totals, and these batches."""
        return self._totals.result(batches)


def _id(batch: Batch, row: int) -> str | int | None:
    return batch.ids[row] if batch.ids is not None else None


def _shaped(
    config: LossConfig, options: RequestOptions, limits: Limits, number: int, batch: Batch
) -> tuple[Column, Column]:
    """Check and reshape a batch to logits (N, C) or (N, L) and targets (N,) or (N, L)."""
    logits, targets = batch.logits, batch.targets
    if logits.size > limits.max_elements:
        raise TooManyElementsError(
            f"batch {number} has {logits.size} logits, the limit is {limits.max_elements} (max_elements)"
        )
    if batch.ids is not None and len(batch.ids) != batch.num_examples:
        raise fault(ShapeError, f"{len(batch.ids)} ids for {batch.num_examples} rows of logits", "ids", batch=number)
    if logits.ndim and targets.ndim and logits.shape[0] != targets.shape[0]:
        raise fault(ShapeError, f"{len(targets)} targets for {len(logits)} rows of logits", "targets", batch=number)
    reshape = _shaped_softmax if config.mode == "softmax" else _shaped_sigmoid
    logits, targets = reshape(config, number, logits, targets)
    return logits, numeric_targets(targets, number, config.mode, exclude=options.on_invalid == "exclude")


def _shaped_softmax(config: LossConfig, number: int, logits: Column, targets: Column) -> tuple[Column, Column]:
    if logits.shape == (0,) and targets.size == 0:
        # JSON has one empty list for every number of classes.
        return logits.reshape(0, len(config.weights or (1, 1))), targets.reshape(0).astype(np.int64)
    if logits.ndim != 2:
        raise fault(
            ShapeError, f"softmax mode takes logits (N, C), got shape {list(logits.shape)}", "logits", batch=number
        )
    if targets.ndim != 1:
        raise fault(
            ShapeError, f"softmax mode takes targets (N,), got shape {list(targets.shape)}", "targets", batch=number
        )
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise fault(
            ShapeError, f"softmax mode needs at least 2 classes, the logits have {num_classes}", "logits", batch=number
        )
    if config.weights is not None and len(config.weights) != num_classes:
        raise fault(
            ShapeError,
            f"alpha has {len(config.weights)} weights, the logits {num_classes} classes",
            "logits",
            batch=number,
        )
    return logits, targets


def _shaped_sigmoid(config: LossConfig, number: int, logits: Column, targets: Column) -> tuple[Column, Column]:
    if logits.ndim not in (1, 2):
        raise fault(
            ShapeError,
            f"sigmoid mode takes logits (N,) or (N, L), got shape {list(logits.shape)}",
            "logits",
            batch=number,
        )
    if targets.ndim not in (1, 2):
        raise fault(
            ShapeError, f"sigmoid mode takes targets (N,) or (N, L), got {list(targets.shape)}", "targets", batch=number
        )
    if logits.ndim == 1:
        # JSON has one empty list for every number of labels.
        labels_of_empty = len(config.alpha) if isinstance(config.alpha, tuple) and not len(logits) else 1
        logits = logits.reshape(len(logits), labels_of_empty)
    if targets.ndim == 1 and (logits.shape[1] == 1 or not len(targets)):
        targets = targets.reshape(logits.shape)
    if logits.shape != targets.shape:
        detail = f"logits {list(logits.shape)} and targets {list(targets.shape)} differ in sigmoid mode"
        raise fault(ShapeError, detail, "targets", batch=number)
    labels = logits.shape[1]
    if labels < 1:
        raise fault(ShapeError, "sigmoid mode needs at least one label, the logits have none", "logits", batch=number)
    if isinstance(config.alpha, tuple) and len(config.alpha) != labels:
        raise fault(
            ShapeError, f"alpha has {len(config.alpha)} values, the logits {labels} labels", "logits", batch=number
        )
    return logits, targets


def check_ids(batches: Sequence[Batch], first: int = 0) -> None:
    """Check that all ids of these batches are unique.

    Args:
        batches: Batches of one request.
        first: Number of the first of these batches in the request.

    Raises:
        InvalidIdsError: An id occurs twice; names both places.
    """
    ids = [example_id for batch in batches for example_id in batch.ids or ()]
    if len(set(ids)) == len(ids):
        return
    seen: dict[str | int, tuple[int, int]] = {}
    for number, batch in enumerate(batches, start=first):
        for row, example_id in enumerate(batch.ids or ()):
            earlier = seen.setdefault(example_id, (number, row))
            if earlier != (number, row):
                msg = f"id {str(example_id)[:100]!r} is already the id of batch {earlier[0]}, row {earlier[1]}"
                raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)


def _invalid_rows_error(
    config: LossConfig, number: int, rows: Sequence[int], logits: Column, targets: Column
) -> LossServiceError:
    errors = [_invalid_row_error(config, number, row, logits[row], targets[row]) for row in rows[:ERRORS_NAMED]]
    items = [item for error in errors for item in error.errors]
    detail = errors[0].detail if len(rows) == 1 else f"{errors[0].detail} (and {len(rows) - 1} more rows)"
    return type(errors[0])(detail, errors=items)


def _invalid_row_error(config: LossConfig, number: int, row: int, logits: Column, targets: Column) -> LossServiceError:
    """The first fault of a row that was marked invalid."""
    for kind, part, column, msg in _faults(config, logits, targets):
        return fault(kind, msg, part, batch=number, row=row, column=column)
    raise AssertionError(f"row {row} of batch {number} was marked invalid but has no fault")


def _faults(
    config: LossConfig, logits: Column, targets: Column
) -> Iterator[tuple[type[LossServiceError], str, int | None, str]]:
    ignore = "" if config.ignore_index is None else f" and is not ignore_index ({config.ignore_index})"
    num_classes = len(logits)
    if config.mode == "softmax":
        target = int(targets.item())
        if target == NO_TARGET:
            yield InvalidTargetError, "targets", None, "no label, or a value that is none"
            return
        if not 0 <= target < num_classes:
            yield InvalidTargetError, "targets", None, f"target {target} is outside [0, {num_classes}){ignore}"
            return
        smoothed = config.label_smoothing > 0
        for column, value in enumerate(logits.tolist()):
            if math.isnan(value) or value == math.inf:
                yield InvalidLogitError, "logits", column, f"logit {_number_text(value)}"
            elif value == -np.inf and column == target:
                yield InvalidLogitError, "logits", column, "logit -inf on the target: its loss is infinite"
            elif value == -np.inf and smoothed:
                yield InvalidLogitError, "logits", column, "logit -inf with label_smoothing: its loss is infinite"
        yield InvalidLogitError, "logits", target, "differs from the largest other logit by more than float64 holds"
        return
    labels = range(num_classes)
    present = [config.ignore_index is None or targets[label].item() != config.ignore_index for label in labels]
    for label in labels:
        target_value = targets[label].item()
        if present[label] and not 0 <= target_value <= 1:
            yield InvalidTargetError, "targets", label, f"target {_number_text(target_value)} is outside [0, 1]{ignore}"
    for label in labels:
        value, target_value = float(logits[label]), targets[label].item()
        if present[label] and (math.isnan(value) or value == math.inf):
            yield InvalidLogitError, "logits", label, f"logit {_number_text(value)}"
        elif present[label] and value == -np.inf and target_value > 0:
            yield InvalidLogitError, "logits", label, "logit -inf on a positive label: its loss is infinite"


def _number_text(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:+}" if math.isinf(value) else f"{value}"


# A loss beyond the range of float32 becomes inf in a float32 column (IEEE 754); the sums are float64.
@np.errstate(over="ignore")
def _reduced_batch(
    batch: Batch, scores: Scores, reduction: Reduction, outputs: Sequence[str], num_excluded: int
) -> tuple[BatchResult, dict[str, Column]]:
    """The result of a batch, and all its columns."""
    state, loss = scores.state, scores.loss
    num_ignored = int(np.count_nonzero(state == IGNORED))
    num_counted = len(loss) - num_ignored - num_excluded
    loss_sum, alpha_sum = float(loss.sum()), float(scores.alpha_t.sum())
    denominator = divisor(reduction, alpha_sum, num_counted) or 1
    dtype = np.float64 if batch.logits.dtype == np.float64 else np.float32
    columns: dict[str, Column] = {
        # The loss of an excluded row is unknown and adds nothing to the sum.
        "loss": (np.where(state >= BAD_TARGET, np.nan, loss) if num_excluded else loss).astype(dtype),
        "contribution": (loss / denominator).astype(dtype),
    }
    for name, values in scores.outputs.items():
        columns[name] = values if name == "prediction" else values.astype(dtype)
    result = BatchResult(
        loss=reduced(reduction, loss_sum, alpha_sum, num_counted),
        loss_sum=loss_sum,
        alpha_sum=alpha_sum,
        num_examples=len(loss),
        num_ignored=num_ignored,
        num_excluded=num_excluded,
        per_example={name: columns[name] for name in outputs},
        ids=batch.ids,
    )
    return result, columns


def _hardest(number: int, batch: Batch, scores: Scores, columns: dict[str, Column], top_k: int) -> list[HardExample]:
    """The k hardest examples of a batch among the rows that count, by the logarithm of the loss, then by position."""
    if not top_k:
        return []
    log_loss = scores.log_loss
    rows = (scores.state == COUNTED).nonzero()[0]
    if len(rows) > top_k:
        smallest = np.partition(log_loss[rows], -top_k)[-top_k]
        rows = rows[log_loss[rows] >= smallest]
    rows = rows[np.argsort(-log_loss[rows], kind="stable")][:top_k]
    loss, contribution = columns["loss"], columns["contribution"]
    return [
        HardExample(number, row, _id(batch, row), loss[row], contribution[row], float(log_loss[row]))
        for row in rows.tolist()
    ]
