"""Ragged batches: the examples of logits and of targets have the same numbers of elements."""

from __future__ import annotations

import numpy as np

from service.errors import ShapeError
from service.schema.faults import fault
from service.schema.request import Column


def check_offsets(logits: Column, targets: Column, number: int) -> None:
    """Check that the lists of logits and of targets of a batch have the same lengths.

    Args:
        logits: (N + 1,) offsets of the lists of logits.
        targets: The same of the targets.
        number: Number of the batch, for messages.

    Raises:
        ShapeError: There are more lists of one kind, or two have different lengths; names the row.
    """
    if len(logits) != len(targets):
        msg = f"{len(targets) - 1} lists of targets for {len(logits) - 1} lists of logits"
        raise fault(ShapeError, msg, "targets", batch=number)
    (differing,) = np.nonzero(np.diff(logits) != np.diff(targets))
    if len(differing):
        row = int(differing[0])
        given, needed = (int(offsets[row + 1] - offsets[row]) for offsets in (targets, logits))
        raise fault(ShapeError, f"{given} targets for {needed} elements of logits", "targets", batch=number, row=row)
