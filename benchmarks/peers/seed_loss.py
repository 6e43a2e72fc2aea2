"""The usual focal loss class: the formula of most implementations, on top of torch's cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor


class FocalLoss:
    """Weighted cross-entropy, and 1 - exp(-ce) as the probability of the other classes.

    Args:
        alpha: One weight per class, or None.
        gamma: Focusing parameter.
        device: Device of the computation.
    """

    def __init__(self, alpha: list[float] | None = None, gamma: float = 2, device: str = "cpu") -> None:
        self.alpha = None if alpha is None else torch.tensor(alpha, dtype=torch.float32, device=device)
        self.gamma = gamma
        self.device = device

    def per_example(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row, (N,)."""
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        cross_entropy = torch.nn.functional.cross_entropy(inputs, targets, weight=self.alpha, reduction="none")
        p_t = torch.exp(-cross_entropy)
        return (1 - p_t) ** self.gamma * cross_entropy

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        return self.per_example(inputs, targets).mean()
