"""The loss and its contributions by the service's engine, beside the textbook formula in eager torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.row import Row
from service.engine import Engine
from service.loss.focal import FocalLoss
from service.messages import LossConfig

RUNS = 7
SHAPES = ((65_536, 1_000), (8_192, 32_000), (65_536, 10))


def eager(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy per example and 1 - exp(-ce), as most implementations have it."""
    cross_entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).mean()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run() -> list[Row]:
    """One row per shape; the two take turns, so that a slow moment of the machine meets both."""
    engine = Engine("cpu", workers=1, queue_size=1, max_queued_bytes=1)
    module = FocalLoss.from_config(LossConfig(), "cpu")
    rows = []
    for examples, classes in SHAPES:
        logits = torch.randn(examples, classes)
        targets = torch.randint(0, classes, (examples,))

        def ours(logits: Tensor = logits, targets: Tensor = targets) -> object:
            return engine.score(module, logits, targets, ("loss", "contribution"))

        def other(logits: Tensor = logits, targets: Tensor = targets) -> object:
            with torch.no_grad():
                return eager(logits, targets)

        ours(), other()
        pairs = [(seconds(ours), seconds(other)) for _ in range(RUNS)]
        ratios = [theirs / mine for mine, theirs in pairs]
        rows.append(
            Row(
                what=f"loss alone, {examples} x {classes} float32, against eager torch",
                ours=f"{statistics.median(mine for mine, _ in pairs) * 1000:.1f} ms",
                other=f"{statistics.median(theirs for _, theirs in pairs) * 1000:.1f} ms",
                ratio=f"{statistics.median(ratios):.2f}",
                spread=f"{min(ratios):.2f} - {max(ratios):.2f}",
            )
        )
    engine.close()
    return rows
