"""The outputs of elements that have one class, from the statistics of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from service.loss.formula import Logistic, Moments, SoftmaxStatistics, focal_slope
from service.loss.score_tensors import confidence_weighted_entropy

NEED_MOMENTS = frozenset({"entropy", "confidence_weighted_entropy", "el2n", "grad_norm"})


def softmax_outputs(
    row: SoftmaxStatistics, alpha_t: Tensor, gamma: float, num_classes: int, names: Sequence[str]
) -> dict[str, Tensor]:
    """The requested outputs.

    Args:
        row: With moments for `NEED_MOMENTS`, and with the prediction if it is requested.
        alpha_t: Weights of the elements, of a shape that broadcasts.
        gamma: >= 0.
        num_classes: C.
        names: From `service.schema.request.ELEMENT_OUTPUTS`, without `loss` and `contribution`.
    """
    outputs = _Outputs(row, alpha_t, gamma, num_classes)
    return {name: getattr(outputs, name) for name in names}


class _Outputs:
    """Every output by its name; each is computed when it is first needed, since it is a pass over all elements."""

    def __init__(self, row: SoftmaxStatistics, alpha_t: Tensor, gamma: float, num_classes: int) -> None:
        self._row = row
        self._of = Logistic(row.log_odds)
        self._alpha_t = alpha_t
        self._gamma = gamma
        self._num_classes = num_classes

    @property
    def cross_entropy(self) -> Tensor:
        # 0 minus the logarithm, so that an easy element has 0: a negation would give -0, visible in JSON.
        return 0 - self._of.log_p

    @property
    def p_t(self) -> Tensor:
        return self._of.p

    @property
    def log_odds(self) -> Tensor:
        return self._of.z

    @property
    def prediction(self) -> Tensor:
        assert self._row.prediction is not None
        return self._row.prediction

    @property
    def logit_margin(self) -> Tensor:
        return self._row.logit_margin

    @property
    def normalized_margin(self) -> Tensor:
        """p_t minus the largest other probability (1 - p_t) / s, shifted to [0, 1] as in cleanlab."""
        return (self._of.p - self._of.q * torch.exp(-self._row.log_others) + 1) / 2

    @cached_property
    def entropy(self) -> Tensor:
        """The entropy of "t or not t", plus the entropy of the other classes times their probability 1 - p_t."""
        return self._of.entropy + self._of.q * self._moments.entropy

    @property
    def confidence_weighted_entropy(self) -> Tensor:
        return confidence_weighted_entropy(self.entropy, self._of.p, self._num_classes)

    @property
    def el2n(self) -> Tensor:
        return self._of.q * self._spread

    @property
    def grad_norm(self) -> Tensor:
        return self._alpha_t * focal_slope(self._of, self._gamma) * self._spread

    @cached_property
    def _spread(self) -> Tensor:
        """The norm of the gradient of z."""
        return (1 + self._moments.squared).sqrt()

    @property
    def _moments(self) -> Moments:
        assert self._row.moments is not None
        return self._row.moments
