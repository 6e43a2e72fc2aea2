"""The class that people bring along: focal loss as most implementations have it, over cross-entropy of torch."""

from __future__ import annotations

import torch
from torch import Tensor


class FocalLoss:
    """Weighted cross-entropy, and 1 - exp(-ce) as the probability of the other classes.

    Args:
        alpha: One weight per class, or None.
        gamma: The focusing parameter.
        device: Where to compute.
    """

    def __init__(self, alpha: list[float] | None = None, gamma: float = 2, device: str = "cpu") -> None:
        self.alpha = None if alpha is None else torch.tensor(alpha, dtype=torch.float32, device=device)
        self.gamma = gamma
        self.device = device

    def per_example(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row, (N,)."""
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        cross_entropy = torch.nn.functional.cross_entropy(inputs, targets, weight=self.alpha, reduction="none")
        p_t = torch.exp(-cross_entropy)
        return (1 - p_t) ** self.gamma * cross_entropy

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the rows, a scalar."""
        return self.per_example(inputs, targets).mean()
