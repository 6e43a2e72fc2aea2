"""What a row is to the loss."""

from __future__ import annotations

from enum import IntEnum


class RowState(IntEnum):
    """Whether a row counts, and if not, why."""

    COUNTED = 0
    IGNORED = 1
    BAD_TARGET = 2
    BAD_LOGIT = 3


# As numbers: numpy takes many times as long to compare with a member of an enumeration, and compiled code knows none.
COUNTED, IGNORED, BAD_TARGET, BAD_LOGIT = (int(state) for state in RowState)
