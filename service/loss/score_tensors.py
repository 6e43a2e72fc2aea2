"""The scores of elements as tensors, and what softmax and sigmoid scores share."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class ScoreTensors(NamedTuple):
    """The scores of each element, of the shape of the targets (soft labels: without the classes).

    All but `state` are meaningless in elements that do not count.

    Args:
        state: int8 `RowState`.
        loss: float64.
        log_loss: float64.
        alpha_t: float64.
        outputs: float64, and int64 `prediction`.
    """

    state: Tensor
    loss: Tensor
    log_loss: Tensor
    alpha_t: Tensor
    outputs: dict[str, Tensor]


def confidence_weighted_entropy(entropy: Tensor, p_t: Tensor, num_classes: int) -> Tensor:
    """cleanlab's label-quality score (cleanlab/rank.py): log(r + 1) / r with r = normalised entropy / p_t."""
    smallest = 1e-6
    ratio = entropy / math.log(num_classes) / p_t.clamp(min=smallest)
    return torch.log1p(ratio) / ratio.clamp(min=smallest)
