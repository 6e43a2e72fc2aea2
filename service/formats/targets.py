"""The labels of a batch as numbers: the point at which every format's labels become classes."""

from __future__ import annotations

from dataclasses import replace

from service.errors import InvalidTargetError
from service.formats.labels import ClassNames, LabelError, class_labels, number_labels
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
