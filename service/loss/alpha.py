"""Class weights as users pass them, and those of a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from service.schema.config import ClassCounts, LossConfig


def with_weights(config: LossConfig, weights: tuple[float, ...]) -> LossConfig:
    """The configuration with other weights, e.g. those of a checkpoint."""
    if weights == config.weights:
        return config
    single = config.mode == "sigmoid" and len(weights) == 1 and not isinstance(config.alpha, tuple)
    alpha = {"alpha": weights[0] if single else weights, "positive_class": 1 if single else config.positive_class}
    return LossConfig.parse(config.model_dump() | alpha)


def plain_alpha(alpha: Any) -> Any:
    """Convert numbers, lists, numpy arrays, tensors and class counts to the configuration's form of alpha."""
    if isinstance(alpha, Tensor | np.ndarray | np.generic):
        alpha = alpha.tolist()
    if isinstance(alpha, list | tuple):
        return tuple(item.item() if isinstance(item, Tensor | np.generic) else item for item in alpha)
    if isinstance(alpha, int) and not isinstance(alpha, bool):
        return float(alpha)
    return alpha.model_dump() if isinstance(alpha, ClassCounts) else alpha
