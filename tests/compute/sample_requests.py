"""Requests for the tests of `evaluate`, and the device that computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.errors import (
    InvalidIdsError,
    LossServiceError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.loss.arrays import as_array
from service.loss.focal import FocalLoss
from service.loss.scores import Scores
from service.schema.config import LossConfig
from service.schema.request import Batch, LossRequest, RequestOptions
from service.schema.result import LossResult

NAN, INF = math.nan, math.inf
LOGITS = [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9], [0.0, 1.0, 2.0], [-1.0, 0.5, 0.5]]
TARGETS = [0, 1, -100, 2]
REDUCTIONS = ("mean", "sum", "weighted_mean", "none")


class CountingDevice(Device):
    """Counts the batches that were computed."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.computed = 0

    def score(self, module: FocalLoss, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Scores:
        self.computed += 1
        return super().score(module, logits, targets, outputs)


DEVICE = CountingDevice()


def of_tensors(logits: Tensor, targets: Tensor, ids: Sequence[str | int] | None = None) -> Batch:
    return Batch(as_array(logits), as_array(targets), ids)


def tensor(values: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, dtype=dtype) if dtype else torch.tensor(values)


def batch(logits: Any, targets: Any, ids: list[str | int] | None = None) -> Batch:
    """A batch as decoded from JSON: float64 logits, and int64 targets if all are integers."""
    return of_tensors(tensor(logits, torch.float64), targets if isinstance(targets, Tensor) else tensor(targets), ids)


def compute(
    batches: Sequence[Batch],
    config: dict[str, Any] | None = None,
    limits: Limits = Limits(1000, 5000),  # noqa: B008
    **options: Any,
) -> LossResult:
    module = FocalLoss.from_config(LossConfig.parse(config or {}), "cpu")
    return evaluate(DEVICE, module, LossRequest(RequestOptions.parse(options), tuple(batches)), limits)


def refused(batches: Sequence[Batch], config: dict[str, Any] | None = None, **options: Any) -> LossServiceError:
    """The error of a request; checks that errors of shapes, ids and limits are raised before anything is computed."""
    before = DEVICE.computed
    with pytest.raises(LossServiceError) as caught:
        compute(batches, config, **options)
    if isinstance(caught.value, ShapeError | InvalidIdsError | TooManyElementsError | TooManyExamplesError):
        assert DEVICE.computed == before
    return caught.value


def locations(error: LossServiceError) -> list[list[str | int]]:
    return [item["loc"] for item in error.errors]


def column(result: LossResult, name: str) -> list[Any]:
    return np.concatenate([part.per_example[name] for part in result.batches]).tolist()


def focal(logits: Sequence[float], target: int, gamma: float, weight: float = 1.0) -> float:
    """Equation 5 of the paper; accurate for logits that are not far apart."""
    powers = [math.exp(value) for value in logits]
    p_t = powers[target] / sum(powers)
    return weight * (1 - p_t) ** gamma * -math.log(p_t)
