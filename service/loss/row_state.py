"""The state of a row: counted, ignored, or invalid."""

from __future__ import annotations

from enum import IntEnum


class RowState(IntEnum):
    """The state of a row: it counts in the loss, is ignored, or is invalid."""

    COUNTED = 0
    IGNORED = 1
    BAD_TARGET = 2
    BAD_LOGIT = 3


# Plain numbers: numpy compares with them many times faster than with enum members, and compiled code needs them.
COUNTED, IGNORED, BAD_TARGET, BAD_LOGIT = (int(state) for state in RowState)
