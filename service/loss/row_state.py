"""What a row is to the loss."""

from __future__ import annotations

from enum import IntEnum


class RowState(IntEnum):
    """Whether a row counts, and if not, why."""

    COUNTED = 0
    IGNORED = 1
    BAD_TARGET = 2
    BAD_LOGIT = 3
