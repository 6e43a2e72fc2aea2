"""Ragged batches: offsets of the examples, and a check that every part has the same numbers of elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import ShapeError
from service.schema.faults import fault
from service.schema.request import Column


def offsets_of(lengths: Sequence[int] | Column) -> Column:
    """The offsets (N + 1,) int64 of N lists in a row: the first item of each, and the end of the last one.

    Args:
        lengths: Length of each list.
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def checked_offsets(offsets: Column, num_elements: int, number: int) -> Column:
    """The offsets of a batch as int64.

    Args:
        offsets: (N + 1,) as received.
        num_elements: Number of targets.
        number: Number of the batch, for messages.

    Raises:
        ShapeError: They are no integers, fall, or do not go from 0 to the number of targets; names the place.
    """

    def wrong(msg: str, *place: int) -> ShapeError:
        return fault(ShapeError, msg, "offsets", *place, batch=number)

    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or not offsets.size:
        raise wrong(f"offsets are integers (N + 1,), got {offsets.dtype.name} of shape {list(offsets.shape)}")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        place = int(falls.argmax()) + 1
        raise wrong(f"offsets never fall, and {offsets[place]} follows {offsets[place - 1]}", place)
    if offsets[0] != 0:
        raise wrong(f"offsets begin with 0, got {offsets[0]}", 0)
    if offsets[-1] != num_elements:
        msg = f"offsets end with the number of targets, {num_elements}, got {offsets[-1]}"
        raise wrong(msg, offsets.size - 1)
    return np.ascontiguousarray(offsets, np.int64)


def check_offsets(part: str, values: Column | None, targets: Column | None, number: int) -> None:
    """Check that the lists of a part and of the targets of a batch have the same lengths.

    Args:
        part: `logits`, or a statistic.
        values: (N + 1,) offsets of its lists; None if they are not ragged.
        targets: The same of the targets.
        number: Number of the batch, for messages.

    Raises:
        ShapeError: There are more lists of one kind, or two have different lengths; names the row.
    """
    if values is None or targets is None:
        return
    if len(values) != len(targets):
        msg = f"{len(targets) - 1} lists of targets for {len(values) - 1} lists of {part}"
        raise fault(ShapeError, msg, "targets", batch=number)
    (differing,) = np.nonzero(np.diff(values) != np.diff(targets))
    if len(differing):
        row = int(differing[0])
        given, needed = (int(offsets[row + 1] - offsets[row]) for offsets in (targets, values))
        raise fault(ShapeError, f"{given} targets for {needed} elements of {part}", "targets", batch=number, row=row)
