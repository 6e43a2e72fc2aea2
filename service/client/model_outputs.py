"""Outputs of models as batches of a run: padded tokens become ragged ones, masks have the size of their labels."""

from __future__ import annotations

from typing import Any

from service.errors import ShapeError
from service.schema.structure import Task

# Label of tokens that do not count, as in torch and transformers.
IGNORED = -100
EXPECTED: dict[Task, str] = {
    "classification": "logits (N, C) and one label per row",
    "multi_label": "logits and labels (N, L)",
    "tokens": "logits (N, T, C) and labels (N, T)",
    "masks": "logits (N, C, d1, ...) and labels (N, d1, ...)",
}


def batch_of_outputs(task: Task, logits: Any, labels: Any, attention: Any) -> tuple[Any, Any, Any]:
    """Return the logits, targets and offsets of a batch, as `RunRecorder.add` takes them.

    Args:
        task: Task of the run.
        logits: Tensor as the model returns it, see EXPECTED; of binary labels without the classes.
        labels: Tensor as the collator makes it; None if there is none.
        attention: (N, T) mask of the tokens that are no padding; None if the model takes none.

    Returns:
        The offsets are None for all tasks but `tokens`. Tokens that are no padding stay, also those whose label does
        not count, so that positions are those of the tokenizer. Without a mask, the tokens of an example end with its
        last label that counts.

    Raises:
        ShapeError: Logits and labels do not have the shapes of the task.
    """
    if labels is None or not hasattr(logits, "dim"):
        raise _wrong(task, logits, labels)
    match task:
        case "tokens":
            return _tokens(logits, labels, attention)
        case "masks":
            return *_masks(logits, labels), None
        case "multi_label":
            fits = logits.dim() == labels.dim() == 2
        case "classification":
            fits = logits.dim() <= 2 and labels.dim() <= 1
    if not fits:
        raise _wrong(task, logits, labels)
    return logits, labels, None


def _tokens(logits: Any, labels: Any, attention: Any) -> tuple[Any, Any, Any]:
    if labels.dim() != 2 or logits.shape[:2] != labels.shape or logits.dim() > 3:
        raise _wrong("tokens", logits, labels)
    if attention is not None and attention.shape == labels.shape:
        kept = attention.bool()
    else:
        kept = (labels != IGNORED).flip(1).cumsum(1).flip(1) > 0
    offsets = [0, *kept.sum(1).cumsum(0).tolist()]
    return logits[kept], labels[kept], offsets


def _masks(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Masks of another size than their labels are interpolated, as the losses of the models do."""
    from torch.nn.functional import interpolate

    if labels.dim() < 2 or logits.dim() != labels.dim() + 1 or len(logits) != len(labels):
        raise _wrong("masks", logits, labels)
    if logits.shape[2:] != labels.shape[1:]:
        if labels.dim() != 3:
            raise _wrong("masks", logits, labels)
        logits = interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return (logits.squeeze(1) if logits.shape[1] == 1 else logits), labels


def _wrong(task: Task, logits: Any, labels: Any) -> ShapeError:
    shapes = [list(value.shape) if hasattr(value, "shape") else None for value in (logits, labels)]
    return ShapeError(
        f"a run of the task {task} stores {EXPECTED[task]}; the model has logits {shapes[0]}, the data labels "
        f"{'none' if labels is None else shapes[1]}"
    )
