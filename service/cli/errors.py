"""Errors that end a command, with their exit status.

- 0: success
- 1: the service or the disk failed
- 2: usage error
- 3: invalid data
- 70: an error of the command itself
- 130: interrupted by Ctrl-C
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import ClassVar

from service.errors import (
    ConflictError,
    InvalidRequestError,
    LossServiceError,
    MethodNotAllowedError,
    NotFoundError,
)

# The place of a value, with which the detail of an error begins; see `service.schema.faults.fault`.
IN_A_BATCH = re.compile(r"batch \d+(, row (?P<row>\d+))?(?=[,:])")

SERVICE_FAILED, USAGE_ERROR, BAD_DATA, UNEXPECTED, INTERRUPTED = 1, 2, 3, 70, 130


class CommandError(Exception):
    """The service or the disk failed."""

    exit_status: ClassVar[int] = SERVICE_FAILED


class UsageError(CommandError):
    """Options or files do not fit together."""

    exit_status = USAGE_ERROR


class DataError(CommandError):
    """A value is invalid; the message names file, row and column."""

    exit_status = BAD_DATA


def exit_status(error: Exception) -> int:
    """The exit status of an error of the client: a request that the service rejects is a usage error."""
    rejected = (InvalidRequestError, NotFoundError, ConflictError, MethodNotAllowedError)
    return USAGE_ERROR if isinstance(error, rejected) else SERVICE_FAILED


def place_in_file(error: LossServiceError, first_row: int) -> str:
    """The row, element and column of an error, counted in the file, and its message.

    Args:
        error: Error about one batch.
        first_row: Row of the file with which the batch begins, from 0.
    """
    place = IN_A_BATCH.match(error.detail)
    if place is None:
        return f": {error.detail}"
    row = "" if place["row"] is None else f", row {first_row + int(place['row'])}"
    return row + error.detail[place.end() :]


def place_in_code(error: BaseException) -> str:
    """The file and line that raised an error, for a report of it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
