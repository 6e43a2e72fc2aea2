"""`FocalLoss` beside the losses of other packages."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from service.loss.focal import focal_loss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(64, 5, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.randint(5, (64,), generator=GENERATOR)
LABELS = torch.randint(2, (64, 5), generator=GENERATOR).double()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_torchvision(reduction: Any, alpha: float | None) -> None:
    ops = pytest.importorskip("torchvision.ops", reason="torchvision cannot be imported", exc_type=Exception)
    theirs = ops.sigmoid_focal_loss(LOGITS, LABELS, alpha=-1 if alpha is None else alpha, reduction=reduction)
    ours = focal_loss(LOGITS, LABELS, mode="sigmoid", alpha=alpha, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_kornia() -> None:
    losses = pytest.importorskip("kornia.losses", reason="kornia is not installed")
    none = losses.focal_loss(LOGITS, CLASSES, alpha=None, gamma=2.0, reduction="none").sum(1)
    torch.testing.assert_close(focal_loss(LOGITS, CLASSES, reduction="none"), none, rtol=1e-6, atol=1e-12)
    # Their mean divides by the number of classes, too.
    mean = losses.focal_loss(LOGITS, CLASSES, alpha=None, gamma=2.0, reduction="mean") * LOGITS.shape[1]
    torch.testing.assert_close(focal_loss(LOGITS, CLASSES), mean, rtol=1e-6, atol=0)
