"""Rows of logits on which implementations of the focal loss tend to fail, and configurations for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

GAMMAS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SCALES = (1.0, 10.0, 100.0, 1e3, 1e4)
OFFSETS = (0.0, 1e4, -1e4)


def double(values: Any) -> Tensor:
    """Numbers as a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def difficult_rows(dtype: torch.dtype, scale: float, offset: float) -> tuple[Tensor, Tensor]:
    """(24, 5) logits in [-scale, scale] + offset as `dtype` stores them, and targets.

    A quarter each: uniform; target nearly tied with another class; target above all others; target below another class.
    """
    generator = torch.Generator().manual_seed(7)
    logits = (torch.rand(24, 5, generator=generator, dtype=torch.float64) * 2 - 1) * scale
    targets = torch.randint(0, 5, (24,), generator=generator)
    row = torch.arange(24)
    other = (targets + 1) % 5
    tied, easy, hard = row[6:12], row[12:18], row[18:]
    gaps = torch.tensor([0, 1e-6, -1e-6, 1e-3, 0.1, -0.5], dtype=torch.float64)
    logits[tied, targets[tied]] = logits[tied].amax(1)
    logits[tied, other[tied]] = logits[tied, targets[tied]] + gaps
    logits[easy] = -logits[easy].abs()
    logits[easy, targets[easy]] = torch.linspace(0, scale, 6, dtype=torch.float64)
    logits[hard, targets[hard]] = torch.linspace(-scale, 0, 6, dtype=torch.float64)
    logits[hard, other[hard]] = scale
    return (logits + offset).to(dtype), targets


def all_difficult_rows(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`difficult_rows` of every scale and offset, (360, 5)."""
    batches = [difficult_rows(dtype, scale, offset) for scale in SCALES for offset in OFFSETS]
    return torch.cat([logits for logits, _ in batches]), torch.cat([targets for _, targets in batches])


def random_rows(
    rows: int, classes: int, dtype: torch.dtype = torch.float32, scale: float = 5, offset: float = 0
) -> tuple[Tensor, Tensor]:
    """Normal logits; the first targets are the last, the first and the middle class."""
    generator = torch.Generator().manual_seed(rows * 7919 + classes)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale + offset
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[:3] = torch.tensor([classes - 1, 0, classes // 2])[:rows]
    return logits.to(dtype), targets


def moderate_rows(rows: int = 40, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits that are small enough for an oracle that computes with float64 probabilities."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 2
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def random_batch(*shape: int, classes_at: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal float64 logits of any shape, and targets of this shape without its class dimension."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    target_shape = shape[:classes_at] + shape[classes_at + 1 :]
    return logits, torch.randint(0, shape[classes_at], target_shape, generator=generator)
