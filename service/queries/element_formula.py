"""Focal losses of elements, from their log-odds.

With z = log(p_t / (1 - p_t)), cross-entropy is softplus(-z) and log(1 - p_t) = -softplus(z), so the focal loss is
alpha_t exp(-gamma softplus(z)) softplus(-z). An asymmetric loss (`gamma_negative`, `clip`) of a negative label follows
from z as well, since p_t = 1 - p.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.queries.weighting import Weighting
from service.schema.config import LossConfig
from service.schema.structure import Task

Floats = NDArray[np.float64]
Targets = NDArray[np.int32]

# Elements whose intermediate results stay in the cache of a core: with all at once it takes three times as long.
BLOCK = 2**15
# Stands for infinity: the products with it are finite, and 0 with 0.
_LARGEST = 1e30


@dataclass(frozen=True)
class ElementFormula:
    """Computes the losses of elements.

    Args:
        config: Configuration of the run.
        task: Task of the run.
        weighting: Class weights and gamma in place of those of the configuration; of the task `multi_label`, alpha has
            one weight of positive labels, or one for each label.
    """

    config: LossConfig
    task: Task
    weighting: Weighting

    def losses(self, targets: Targets, log_odds: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """The losses and the cross-entropies of all elements of some examples, 0 where the target is ignored.

        Args:
            targets: (E,), negative where it is ignored.
            log_odds: (E,), finite where the target is ignored.
        """
        loss, cross_entropy = np.empty(len(targets)), np.empty(len(targets))
        for start in range(0, len(targets), BLOCK):
            part = slice(start, start + BLOCK)
            some = targets[part]
            counted = some >= 0
            softplus, entropy, softened = self._terms(some, log_odds[part])
            factor = np.exp(-self._gamma(some) * softplus)
            alpha = self._alpha(some, np.arange(start, start + len(some)))
            if alpha is not None:
                factor *= alpha
            np.multiply(factor * softened, counted, out=loss[part])
            np.multiply(entropy, counted, out=cross_entropy[part])
        return loss, cross_entropy

    def log_losses(self, targets: Targets, log_odds: NDArray[np.float32], places: NDArray[np.int64]) -> Floats:
        """Logarithms of the losses of some elements, also of losses that are 0 in float64.

        Args:
            targets: (E,) those of all elements.
            log_odds: (E,) those of all elements.
            places: The elements to compute.
        """
        some = targets[places]
        softplus, _, softened = self._terms(some, log_odds[places])
        alpha = self._alpha(some, places)
        with np.errstate(divide="ignore", invalid="ignore"):
            # The cross-entropy of large log-odds is exp(-z), which is 0 in float64; that of a clipped label is 0.
            is_zero = bool(self.config.clip) & (some == 0)
            log_softened = np.where(softened > 0, np.log(softened), np.where(is_zero, -np.inf, -softplus))
            logs = log_softened - self._gamma(some) * softplus
            if alpha is not None:
                logs += np.log(alpha)
        return np.where((some >= 0) & ~np.isnan(logs), logs, -np.inf)

    def _terms(self, targets: Targets, log_odds: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
        """softplus(z), the cross-entropy, and what takes its place in the loss; see `clip`."""
        z = np.clip(log_odds.astype(np.float64), -_LARGEST, _LARGEST)
        common = np.log1p(np.exp(-np.abs(z)))
        softplus, cross_entropy = np.maximum(z, 0) + common, np.maximum(-z, 0) + common
        if not self.config.clip:
            return softplus, cross_entropy, cross_entropy
        # Of a negative label 1 - p_t is p, which `clip` lowers.
        p = np.maximum(np.exp(-softplus) - self.config.clip, 0)
        negative = targets == 0
        with np.errstate(divide="ignore"):
            lowered = np.minimum(-np.log(p), _LARGEST)
        return (
            np.where(negative, lowered, softplus),
            cross_entropy,
            np.where(negative, -np.log1p(-p), cross_entropy),
        )

    @cached_property
    def _table(self) -> Floats | None:
        """The weights of `weighting`, of which there may be half a million; None for weights of 1."""
        return None if self.weighting.alpha is None else np.array(self.weighting.alpha)

    def _alpha(self, targets: Targets, places: NDArray[np.int64]) -> Any:
        """The weights of the targets of elements at these places; None for weights of 1."""
        table = self._table
        if table is None:
            return None
        if self.task != "multi_label":
            return table[np.maximum(targets, 0)]
        # All examples have the same number of labels.
        positive = table[places % len(table)]
        return np.where(targets == 1, positive, 1 - positive)

    def _gamma(self, targets: Targets) -> float | Floats:
        other = self.config.gamma_negative
        if self.config.mode == "softmax" or other is None:
            return self.weighting.gamma
        return np.where(targets == 1, self.weighting.gamma, other)


def p_of(log_odds: NDArray[np.float32]) -> Floats:
    """The probabilities of the targets: 1 / (1 + exp(-z)), also where the exponential overflows."""
    z = log_odds.astype(np.float64)
    e = np.exp(-np.abs(z))
    p: Floats = np.where(z >= 0, 1, e) / (1 + e)
    return p
