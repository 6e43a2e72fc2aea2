"""The result of a loss request, before any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from service.schema.config import Reduction
from service.schema.request import Column, Ids


@dataclass(frozen=True)
class Hard:
    """One of the hardest examples of a request; `log_loss` orders them where the loss itself underflows."""

    batch: int
    index: int
    id: str | int | None
    loss: np.floating[Any]
    contribution: np.floating[Any]
    log_loss: float


@dataclass(frozen=True)
class Excluded:
    """A row that `on_invalid: "exclude"` left out, and why."""

    batch: int
    index: int
    id: str | int | None
    code: str
    msg: str


@dataclass(frozen=True, eq=False)
class BatchResult:
    """The loss of one batch and what each example adds to it.

    Args:
        loss: The reduced loss, or None (`none`, or a mean over nothing).
        loss_sum: Sum of the unreduced losses, float64.
        alpha_sum: Sum of alpha_t over the examples that count.
        num_examples: Rows in the batch, ignored and excluded ones included.
        num_ignored: Rows whose target is `ignore_index`.
        num_excluded: Invalid rows left out on request.
        per_example: (N,) float32 (float64 for float64 logits) for each output, NaN for null; `prediction` int64,
            -1 for null, in sigmoid mode with L > 1 labels (N, L).
        ids: As sent.
    """

    loss: float | None
    loss_sum: float
    alpha_sum: float
    num_examples: int
    num_ignored: int
    num_excluded: int
    per_example: dict[str, Column]
    ids: Ids | None = None


@dataclass(frozen=True, eq=False)
class LossResult:
    """The answer to a loss request, before any format."""

    config_id: str
    device: str
    loss: float | None
    num_examples: int
    num_ignored: int
    num_excluded: int
    batches: tuple[BatchResult, ...]
    hardest: tuple[Hard, ...] = ()
    excluded: tuple[Excluded, ...] = ()


def divisor(reduction: Reduction, alpha_sum: float, num_counted: int) -> float:
    """What a sum of losses is divided by (contract section 1); 0 for a mean over nothing."""
    return {"mean": num_counted, "weighted_mean": alpha_sum}.get(reduction, 1)


def reduced(reduction: Reduction, loss_sum: float, alpha_sum: float, num_counted: int) -> float | None:
    """The loss of many examples; None for `none`, and for a mean over nothing."""
    by = divisor(reduction, alpha_sum, num_counted)
    return None if reduction == "none" or by == 0 else loss_sum / by
