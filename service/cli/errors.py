"""Errors that end a command, with their exit status.

- 0: success
- 1: the service or the disk failed
- 2: usage error
- 3: invalid data
- 70: an error of the command itself
- 130: interrupted by Ctrl-C
"""

from __future__ import annotations

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
    """The row and column of an error, counted in the file, and its message.

    Args:
        error: Error about one batch.
        first_row: Row of the file with which the batch begins, from 0.
    """
    if not error.errors:
        return f": {error.detail}"
    loc, msg = error.errors[0]["loc"], error.errors[0]["msg"]
    numbers = [part for part in loc[3:] if isinstance(part, int)]
    if loc[:1] != ["batches"] or not numbers:
        return f": {error.detail}"
    numbers[0] += first_row
    names = ("row", "column")
    return "".join(f", {name} {number}" for name, number in zip(names, numbers, strict=False)) + f": {msg}"


def place_in_code(error: BaseException) -> str:
    """The file and line that raised an error, for a report of it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
