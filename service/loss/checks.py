"""Checks of logits, targets and weights. Messages name the row and the value."""

from __future__ import annotations

import torch
from torch import Tensor

from service.loss.tracing import has_values, is_in_transform
from service.schema.config import LossConfig


def check_softmax_inputs(logits: Tensor, targets: Tensor, config: LossConfig, alpha: Tensor | None) -> None:
    """Check shapes and types of softmax mode.

    Args:
        logits: (C,), (N, C) or (N, C, d1, ...).
        targets: Integers, the shape of the logits without C; or soft labels, floats of the shape of the logits.
        config: With `label_smoothing` there are no soft labels.
        alpha: (C,), or None.

    Raises:
        ValueError: They do not fit, or there are fewer than two classes.
    """
    if logits.dim() == 0:
        raise ValueError("softmax logits have at least one dimension, the classes; got a scalar")
    expected = logits.shape[:1] + logits.shape[2:] if logits.dim() > 1 else logits.shape[:0]
    if is_soft(logits, targets):
        if config.label_smoothing:
            raise ValueError("label_smoothing is for class indices; soft labels are used as they are")
    elif targets.shape != expected:
        message = f"logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)}"
        if logits.shape == targets.shape:
            message += (
                ": class indices have no dimension of classes; of one-hot targets pass `targets.argmax(1)`, or "
                "`targets.float()` as soft labels"
            )
        raise ValueError(message)
    elif targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"softmax targets are integer class indices, got {targets.dtype}")
    num_classes = logits.shape[-1] if logits.dim() == 1 else logits.shape[1]
    if num_classes < 2:
        raise ValueError(f"softmax mode needs at least 2 classes, the logits have {num_classes}")
    if alpha is not None and len(alpha) != num_classes:
        raise ValueError(f"alpha has {len(alpha)} weights, the logits {num_classes} classes")


def is_soft(logits: Tensor, targets: Tensor) -> bool:
    """True if softmax targets are distributions over the classes: floats of the shape of the logits."""
    return targets.is_floating_point() and targets.shape == logits.shape


def not_ignored(targets: Tensor, ignore_index: int | None) -> Tensor:
    """Boolean mask of the targets that are not `ignore_index`."""
    if ignore_index is None:
        return torch.ones_like(targets, dtype=torch.bool)
    # torch compares a narrow integer tensor modulo its range: uint8 156 == -100.
    wide = targets.double() if targets.is_floating_point() else targets.long()
    return wide != ignore_index


def check_sigmoid_inputs(logits: Tensor, targets: Tensor, config: LossConfig) -> None:
    """Check the shapes of sigmoid mode.

    Args:
        logits: Any shape; the last of several dimensions are the labels.
        targets: The shape of the logits.
        config: A list alpha has one value per label.

    Raises:
        ValueError: They do not fit.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)}")
    num_labels = logits.shape[-1] if logits.dim() > 1 else 1
    if isinstance(config.alpha, tuple) and len(config.alpha) != num_labels:
        raise ValueError(f"alpha has {len(config.alpha)} values, the logits {num_labels} labels")


def check_values(valid: Tensor, values: Tensor, message: str) -> None:
    """Check every value of a tensor.

    A compiled program checks when it runs, and its message has no value. Other tensors without values, e.g. those of
    vmap, are not checked.

    Args:
        valid: Boolean tensor of any shape.
        values: The values, of the same shape.
        message: Message about a value, which replaces `{}`.

    Raises:
        ValueError: A value is not valid.
    """
    if torch.compiler.is_compiling():
        # vmap does not know assertions.
        if not is_in_transform():
            torch._assert_async(valid.all(), message.format("?"))
    elif has_values(valid) and not valid.all():
        index = tuple(torch.nonzero(~valid)[0].tolist())
        place = f"row {index[0]}" if len(index) == 1 else f"position {index}"
        raise ValueError(f"{place}: {message.format(values[index].item())}")
