"""The labels of a batch as numbers: the point at which every format's labels become classes."""

from __future__ import annotations

from dataclasses import replace

from service.errors import InvalidTargetError
from service.formats.labels import ClassNames, LabelError, class_labels, number_labels
from service.formats.places import place_at
from service.schema.config import Mode
from service.schema.faults import fault
from service.schema.request import Batch, Column


def numeric_targets(
    targets: Column, number: int, mode: Mode, *, names: ClassNames | None = None, exclude: bool = False
) -> Column:
    """Convert the targets of a batch as they were sent; in softmax mode they are (N,).

    Args:
        targets: See `Batch`.
        number: Number of the batch, for messages.
        mode: Mode of the configuration.
        names: Names of the classes of a run.
        exclude: Convert what is no label to a value that the loss excludes, instead of raising.

    Raises:
        InvalidTargetError: A value is no label; names batch, row and column.
    """
    if targets.dtype.kind == "i":
        return targets
    convert = class_labels if mode == "softmax" else number_labels
    try:
        return convert(targets, names, exclude=exclude)
    except LabelError as err:
        raise fault(InvalidTargetError, err.msg, "targets", batch=number, row=err.row, column=err.column) from err


def with_numeric_targets(
    batch: Batch, number: int, mode: Mode, *, names: ClassNames | None = None, exclude: bool = False
) -> Batch:
    """The batch with numbers as targets; unchanged if their shape does not fit the mode, which the loss rejects."""
    if mode == "softmax" and batch.targets.ndim != 1:
        return batch
    targets = numeric_targets(batch.targets, number, mode, names=names, exclude=exclude)
    return batch if targets is batch.targets else replace(batch, targets=targets)


def with_classes(batch: Batch, number: int, names: ClassNames, *, exclude: bool = False) -> Batch:
    """The batch of structured examples with numbers in place of names of classes; unchanged if it has none.

    Args:
        batch: A batch of the layout `dense` or `ragged`.
        number: Number of the batch, for messages.
        names: Names of the classes.
        exclude: Convert what is no label to a value that the loss excludes, instead of raising.

    Raises:
        InvalidTargetError: A target is no label; names batch, example and element.
    """
    if batch.targets.dtype != object:
        return batch
    try:
        targets = class_labels(batch.targets.reshape(-1), names, exclude=exclude)
    except LabelError as err:
        place = place_at(err.row, batch.targets.shape, batch.offsets)
        raise fault(InvalidTargetError, err.msg, "targets", batch=number, **place) from err
    return replace(batch, targets=targets.reshape(batch.targets.shape))
