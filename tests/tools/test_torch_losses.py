"""`FocalLoss` and `evaluate` beside the losses of other packages: torchvision, kornia, MONAI, timm, transformers."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss.focal import FocalLoss, focal_loss
from service.schema.config import LossConfig
from service.schema.request import Batch, LossRequest, RequestOptions

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(64, 5, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.randint(5, (64,), generator=GENERATOR)
LABELS = torch.randint(2, (64, 5), generator=GENERATOR).double()
MAPS = torch.randn(3, 5, 6, 7, generator=GENERATOR, dtype=torch.float64) * 3
MASKS = torch.randint(5, (3, 6, 7), generator=GENERATOR)


@pytest.fixture(autouse=True, scope="module")
def torchvision_operators() -> torch.library.Library:
    """Declare the operators of torchvision's extension, which does not load beside torch's build for the CPU."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not torch.version.cuda:
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    return library  # which ends with its last reference


def module(name: str) -> ModuleType:
    """The module; skips the test if its package is not installed."""
    package = name.partition(".")[0]
    pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ModuleNotFoundError)
    return import_module(name)


def reduced(logits: torch.Tensor, targets: torch.Tensor, config: dict[str, Any], **options: Any) -> float:
    """The loss of a request with one batch."""
    instance = FocalLoss.from_config(LossConfig.parse(config), "cpu")
    request = LossRequest(RequestOptions.parse(options), (Batch(logits.numpy(), targets.numpy()),))
    loss = evaluate(Device("cpu"), instance, request, Limits(10**6, 10**6)).loss
    assert loss is not None
    return loss


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_torchvision(reduction: Any, alpha: float | None) -> None:
    ops = module("torchvision.ops")
    theirs = ops.sigmoid_focal_loss(LOGITS, LABELS, alpha=-1 if alpha is None else alpha, reduction=reduction)
    ours = focal_loss(LOGITS, LABELS, mode="sigmoid", alpha=alpha, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_retinanet_of_torchvision() -> None:
    """The sum of an image by its matched anchors, at least 1; anchors between the thresholds are ignored."""
    retinanet = module("torchvision.models.detection.retinanet")
    anchors, classes = 40, 5
    logits = torch.randn(3, anchors, classes, generator=GENERATOR, dtype=torch.float64) - 2
    matched = torch.full((3, anchors), -1)
    matched[0, [3, 8, 9]], matched[1, 7] = torch.tensor([1, 0, 1]), 0
    matched[:, 20:25] = -2
    boxes = [{"labels": torch.tensor(labels)} for labels in ([4, 2], [0], [1])]
    theirs = retinanet.RetinaNetClassificationHead(8, 1, classes).compute_loss(
        boxes, {"cls_logits": logits}, list(matched)
    )
    targets = torch.zeros(3, anchors, classes, dtype=torch.int64)
    for image, anchor in (matched >= 0).nonzero().tolist():
        targets[image, anchor, boxes[image]["labels"][matched[image, anchor]]] = 1
    targets[matched == -2] = -100
    config = {"mode": "sigmoid", "alpha": 0.25}
    ours = reduced(logits, targets, config, layout="dense", divisor="positives")
    assert ours == pytest.approx(theirs.item(), rel=1e-9)


def test_detr_of_transformers() -> None:
    """Their helper takes the mean over the queries, and its callers multiply by their number."""
    detection = module("transformers.loss.loss_for_object_detection")
    logits = torch.randn(2, 30, 5, generator=GENERATOR, dtype=torch.float64) - 2
    targets = torch.zeros(2, 30, 5, dtype=torch.int64)
    targets[0, [1, 2, 3], [4, 0, 4]] = targets[1, 5, 2] = 1
    theirs = detection.sigmoid_focal_loss(logits, targets.double(), num_boxes=4) * 30
    config = {"mode": "sigmoid", "alpha": 0.25}
    assert reduced(logits, targets, config, layout="dense", divisor=4.0) == pytest.approx(theirs.item(), rel=1e-9)
    total = focal_loss(logits, targets, reduction="sum", **config)  # type: ignore[arg-type]
    assert (total / 4).item() == pytest.approx(theirs.item(), rel=1e-9)


@pytest.mark.parametrize(("logits", "classes"), [(LOGITS, CLASSES), (MAPS, MASKS)])
def test_kornia(logits: torch.Tensor, classes: torch.Tensor) -> None:
    losses = module("kornia.losses")
    none = losses.focal_loss(logits, classes, alpha=None, gamma=2.0, reduction="none").sum(1)
    torch.testing.assert_close(focal_loss(logits, classes, reduction="none"), none, rtol=1e-6, atol=1e-12)
    # Their mean divides by the number of classes, too.
    mean = losses.focal_loss(logits, classes, alpha=None, gamma=2.0, reduction="mean") * logits.shape[1]
    torch.testing.assert_close(focal_loss(logits, classes), mean, rtol=1e-6, atol=0)
    if logits.dim() > 2:
        assert reduced(logits, classes, {}, layout="dense") == pytest.approx(mean.item(), rel=1e-6)


@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.0, 3.0, 4.0]])
def test_monai(weight: list[float] | None) -> None:
    losses = module("monai.losses")
    masks = MASKS.clone()
    masks[:, 2:4, 3] = 255
    theirs = losses.FocalLoss(to_onehot_y=True, use_softmax=True, weight=weight, reduction="none", ignore_index=255)
    none = theirs(MAPS, masks.unsqueeze(1)).sum(1)
    ours = focal_loss(MAPS, masks, alpha=weight, reduction="none", ignore_index=255)
    torch.testing.assert_close(ours.double(), none.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("gamma", "gamma_negative", "clip"), [(1, 4, 0.05), (0, 2, 0.0), (2, 2, 0.2)])
def test_timm(gamma: float, gamma_negative: float, clip: float) -> None:
    loss = module("timm.loss").AsymmetricLossMultiLabel(gamma_negative, gamma, clip, reduction="none")
    ours = focal_loss(
        LOGITS, LABELS, gamma=gamma, mode="sigmoid", gamma_negative=gamma_negative, clip=clip, reduction="none"
    )
    # They compute in float32.
    torch.testing.assert_close(ours.float(), loss(LOGITS, LABELS), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal((ours == 0).numpy(), (loss(LOGITS, LABELS) == 0).numpy())
