"""From a decoded request to its result: shapes, bad rows, reductions, contributions and the hardest examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from service.engine import Engine
from service.errors import (
    ErrorItem,
    InvalidIdsError,
    InvalidLogitError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.loss.focal import FocalLoss
from service.loss.scores import RowState, Scores
from service.messages import Batch, BatchResult, Column, Excluded, Hard, LossConfig, LossRequest, LossResult, Reduction

ERRORS_NAMED = 20
EXCLUDED_NAMED = 1000


@dataclass(frozen=True)
class Limits:
    """How large a request may be.

    Args:
        max_elements: Logits in one batch.
        max_examples: Rows in one request.
    """

    max_elements: int
    max_examples: int


@dataclass(frozen=True, eq=False)
class _Scored:
    scores: Scores
    result: BatchResult
    loss: Column
    contribution: Column


def evaluate(engine: Engine, module: FocalLoss, request: LossRequest, limits: Limits) -> LossResult:
    """Compute a request.

    Args:
        engine: Where to compute.
        module: The configured loss, on the engine's device.
        request: As decoded; nothing in it is trusted yet.
        limits: Checked before anything is computed.

    Raises:
        TooManyElementsError: A batch is larger than the limit.
        TooManyExamplesError: The request has more rows than the limit.
        ShapeError: Shapes or lengths do not fit each other or the configuration.
        InvalidIdsError: Ids are not unique in the request.
        InvalidLogitError: A bad logit, unless such rows are to be excluded; names batch, row, column and value.
        InvalidTargetError: The same for a target.
        DeviceOutOfMemoryError: Not even one row fits.
    """
    _check_limits(request.batches, limits)
    shaped = [_shaped(module.config, number, batch) for number, batch in enumerate(request.batches)]
    _check_ids(request.batches)
    scored: list[_Scored] = []
    excluded: list[Excluded] = []
    for number, (batch, (logits, targets)) in enumerate(zip(request.batches, shaped, strict=True)):
        scores = engine.score(module, logits, targets, request.options.outputs)
        bad = torch.nonzero(scores.state >= RowState.BAD_TARGET).squeeze(1).tolist()
        if bad and request.options.on_invalid == "error":
            raise _bad_rows(module.config, number, bad, logits, targets)
        for row in bad[: EXCLUDED_NAMED - len(excluded)]:
            fault = _fault(module.config, number, row, logits[row], targets[row])
            identity = batch.ids[row] if batch.ids is not None else None
            excluded.append(Excluded(number, row, identity, fault.code, fault.detail))
        scored.append(_scored(batch, scores, module.config.reduction, request.options.outputs, len(bad)))
    results = tuple(one.result for one in scored)
    return LossResult(
        config_id=module.config.config_id,
        device=engine.device,
        loss=_reduced(
            module.config.reduction,
            sum(result.loss_sum for result in results),
            sum(result.alpha_sum for result in results),
            sum(result.num_examples - result.num_ignored - result.num_excluded for result in results),
        ),
        num_examples=sum(result.num_examples for result in results),
        num_ignored=sum(result.num_ignored for result in results),
        num_excluded=sum(result.num_excluded for result in results),
        batches=results,
        hardest=_hardest(scored, request.options.top_k),
        excluded=tuple(excluded),
    )


def _check_limits(batches: Sequence[Batch], limits: Limits) -> None:
    for number, batch in enumerate(batches):
        if batch.logits.numel() > limits.max_elements:
            raise TooManyElementsError(
                f"batch {number} has {batch.logits.numel()} logits, the limit is {limits.max_elements} (max_elements)"
            )
    total = sum(batch.num_examples for batch in batches)
    if total > limits.max_examples:
        raise TooManyExamplesError(f"the request has {total} rows, the limit is {limits.max_examples} (max_examples)")


def _shaped(config: LossConfig, number: int, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (N, C) or (N, L) and targets (N,) or (N, L), or the error that says what does not fit."""
    logits, targets = batch.logits, batch.targets
    if batch.ids is not None and len(batch.ids) != batch.num_examples:
        raise _shape_error(number, "ids", f"{len(batch.ids)} ids for {batch.num_examples} rows of logits")
    if len(logits.shape) > 0 and len(targets.shape) > 0 and len(logits) != len(targets):
        raise _shape_error(number, "targets", f"{len(targets)} targets for {len(logits)} rows of logits")
    return (_shaped_softmax if config.mode == "softmax" else _shaped_sigmoid)(config, number, logits, targets)


def _shaped_softmax(config: LossConfig, number: int, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if logits.shape == (0,) and targets.numel() == 0:
        return logits.reshape(0, 2), targets.reshape(0).long()
    if logits.dim() != 2:
        raise _shape_error(number, "logits", f"softmax mode takes logits (N, C), got shape {list(logits.shape)}")
    if targets.dim() != 1:
        raise _shape_error(number, "targets", f"softmax mode takes targets (N,), got shape {list(targets.shape)}")
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise _shape_error(number, "logits", f"softmax mode needs at least 2 classes, the logits have {num_classes}")
    if config.weights is not None and len(config.weights) != num_classes:
        raise _shape_error(
            number, "logits", f"alpha has {len(config.weights)} weights, the logits {num_classes} classes"
        )
    if targets.is_floating_point() and len(targets):
        # A row that no int64 could hold is the one to name; where all could, the first stands for the dtype.
        no_integer = torch.nonzero((targets != targets.trunc()) | (targets.abs() >= 2.0**63)).flatten()
        row = int(no_integer[0]) if len(no_integer) else 0
        msg = f"softmax targets are integer class indices, got {_spelled(targets[row].item())}"
        raise InvalidTargetError(
            f"batch {number}, row {row}: {msg}", errors=[{"loc": ["batches", number, "targets", row], "msg": msg}]
        )
    return logits, targets


def _shaped_sigmoid(config: LossConfig, number: int, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if logits.dim() not in (1, 2):
        raise _shape_error(
            number, "logits", f"sigmoid mode takes logits (N,) or (N, L), got shape {list(logits.shape)}"
        )
    if targets.dim() not in (1, 2):
        raise _shape_error(number, "targets", f"sigmoid mode takes targets (N,) or (N, L), got {list(targets.shape)}")
    if logits.dim() == 1:
        # JSON has one empty list for every number of labels.
        labels_of_empty = len(config.alpha) if isinstance(config.alpha, tuple) and not len(logits) else 1
        logits = logits.reshape(len(logits), labels_of_empty)
    if targets.dim() == 1 and (logits.shape[1] == 1 or not len(targets)):
        targets = targets.reshape(logits.shape)
    if logits.shape != targets.shape:
        detail = f"logits {list(logits.shape)} and targets {list(targets.shape)} differ in sigmoid mode"
        raise _shape_error(number, "targets", detail)
    labels = logits.shape[1]
    if labels < 1:
        raise _shape_error(number, "logits", "sigmoid mode needs at least one label, the logits have none")
    if isinstance(config.alpha, tuple) and len(config.alpha) != labels:
        raise _shape_error(number, "logits", f"alpha has {len(config.alpha)} values, the logits {labels} labels")
    return logits, targets


def _shape_error(number: int, part: str, msg: str) -> ShapeError:
    return ShapeError(f"batch {number}: {msg}", errors=[{"loc": ["batches", number, part], "msg": msg}])


def _check_ids(batches: Sequence[Batch]) -> None:
    seen: dict[str | int, tuple[int, int]] = {}
    for number, batch in enumerate(batches):
        for row, identity in enumerate(batch.ids or ()):
            first = seen.setdefault(identity, (number, row))
            if first != (number, row):
                msg = f"id {str(identity)[:100]!r} is already that of batch {first[0]}, row {first[1]}"
                raise InvalidIdsError(
                    f"batch {number}, row {row}: {msg}", errors=[{"loc": ["batches", number, "ids", row], "msg": msg}]
                )


def _bad_rows(
    config: LossConfig, number: int, rows: Sequence[int], logits: Tensor, targets: Tensor
) -> LossServiceError:
    faults = [_fault(config, number, row, logits[row], targets[row]) for row in rows[:ERRORS_NAMED]]
    items = [item for fault in faults for item in fault.errors]
    detail = faults[0].detail if len(rows) == 1 else f"{faults[0].detail} (and {len(rows) - 1} more rows)"
    return type(faults[0])(detail, errors=items)


def _fault(config: LossConfig, number: int, row: int, logits: Tensor, targets: Tensor) -> LossServiceError:
    """What is wrong with a row that was marked bad."""
    for kind, part, column, msg in _faults(config, logits, targets):
        place: list[str | int] = ["batches", number, part, row]
        where = f"batch {number}, row {row}"
        if column is not None:
            place.append(column)
            where += f", column {column}"
        item: ErrorItem = {"loc": place, "msg": msg}
        return kind(f"{where}: {msg}", errors=[item])
    raise AssertionError(f"row {row} of batch {number} was marked bad and nothing is wrong with it")


def _faults(
    config: LossConfig, logits: Tensor, targets: Tensor
) -> Iterator[tuple[type[LossServiceError], str, int | None, str]]:
    ignore = "" if config.ignore_index is None else f" and is not ignore_index ({config.ignore_index})"
    num_classes = len(logits)
    if config.mode == "softmax":
        target = int(targets.item())
        if not 0 <= target < num_classes:
            yield InvalidTargetError, "targets", None, f"target {target} is outside [0, {num_classes}){ignore}"
            return
        smoothed = config.label_smoothing > 0
        for column, value in enumerate(logits.tolist()):
            if value != value or value == np.inf:  # noqa: PLR0124
                yield InvalidLogitError, "logits", column, f"logit {_spelled(value)}"
            elif value == -np.inf and column == target:
                yield InvalidLogitError, "logits", column, "logit -inf on the target: its loss is infinite"
            elif value == -np.inf and smoothed:
                yield InvalidLogitError, "logits", column, "logit -inf with label_smoothing: its loss is infinite"
        return
    labels = range(num_classes)
    present = [config.ignore_index is None or targets[label].item() != config.ignore_index for label in labels]
    for label in labels:
        target_value = targets[label].item()
        if present[label] and not 0 <= target_value <= 1:
            yield InvalidTargetError, "targets", label, f"target {_spelled(target_value)} is outside [0, 1]{ignore}"
    for label in labels:
        value, target_value = float(logits[label]), targets[label].item()
        if present[label] and (value != value or value == np.inf):  # noqa: PLR0124
            yield InvalidLogitError, "logits", label, f"logit {_spelled(value)}"
        elif present[label] and value == -np.inf and target_value > 0:
            yield InvalidLogitError, "logits", label, "logit -inf on a positive label: its loss is infinite"


def _spelled(value: float) -> str:
    return "NaN" if value != value else f"{value:+}" if value in (np.inf, -np.inf) else f"{value}"  # noqa: PLR0124


def _divisor(reduction: Reduction, alpha_sum: float, num_counted: int) -> float:
    return {"mean": num_counted, "weighted_mean": alpha_sum, "sum": 1, "none": 1}[reduction]


def _reduced(reduction: Reduction, loss_sum: float, alpha_sum: float, num_counted: int) -> float | None:
    """The reduced loss; None for `none`, and for a mean over nothing."""
    divisor = _divisor(reduction, alpha_sum, num_counted)
    return None if reduction == "none" or divisor == 0 else loss_sum / divisor


def _scored(batch: Batch, scores: Scores, reduction: Reduction, outputs: Sequence[str], num_excluded: int) -> _Scored:
    state, loss = scores.state.numpy(), scores.loss.numpy()
    num_ignored = int((state == RowState.IGNORED).sum())
    num_counted = len(loss) - num_ignored - num_excluded
    loss_sum, alpha_sum = float(loss.sum()), float(scores.alpha_t.numpy().sum())
    divisor = _divisor(reduction, alpha_sum, num_counted) or 1
    dtype = np.float64 if batch.logits.dtype == torch.float64 else np.float32
    columns: dict[str, Column] = {
        # Nothing is known of the loss of an excluded row; to the sum it adds nothing.
        "loss": np.where(state >= RowState.BAD_TARGET, np.nan, loss).astype(dtype),
        "contribution": (loss / divisor).astype(dtype),
    }
    for name, values in scores.outputs.items():
        columns[name] = values.numpy() if name == "prediction" else values.numpy().astype(dtype)
    result = BatchResult(
        loss=_reduced(reduction, loss_sum, alpha_sum, num_counted),
        loss_sum=loss_sum,
        alpha_sum=alpha_sum,
        num_examples=len(loss),
        num_ignored=num_ignored,
        num_excluded=num_excluded,
        per_example={name: columns[name] for name in outputs},
        ids=batch.ids,
    )
    return _Scored(scores, result, columns["loss"], columns["contribution"])


def _hardest(scored: Sequence[_Scored], top_k: int) -> tuple[Hard, ...]:
    """The k largest losses of the request by their logarithms, then by position; only rows that count."""
    if not top_k or not scored:
        return ()
    log_loss = np.concatenate([one.scores.log_loss.numpy() for one in scored])
    rows = np.flatnonzero(np.concatenate([one.scores.state.numpy() for one in scored]) == RowState.COUNTED)
    if len(rows) > top_k:
        smallest = np.partition(log_loss[rows], -top_k)[-top_k]
        rows = rows[log_loss[rows] >= smallest]
    rows = rows[np.argsort(-log_loss[rows], kind="stable")][:top_k]
    starts = np.cumsum([0, *(one.result.num_examples for one in scored)])
    numbers = np.searchsorted(starts, rows, side="right") - 1
    hardest = []
    for number, index in zip(numbers.tolist(), (rows - starts[numbers]).tolist(), strict=True):
        one = scored[number]
        identity = one.result.ids[index] if one.result.ids is not None else None
        hardest.append(Hard(number, index, identity, one.loss[index], one.contribution[index]))
    return tuple(hardest)
