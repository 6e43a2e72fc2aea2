"""Errors of the operating system as errors of the service."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import LossServiceError, StorageFullError, StorageUnavailableError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Errors of opening or reading that one file causes; others, such as too many open files, are those of the machine.
OF_ONE_FILE = (
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENXIO,
)


@contextmanager
def storage_errors(place: str = "the data directory", of: type[Exception] = OSError) -> Iterator[None]:
    """Convert errors of the operating system to errors of the service, except FileNotFoundError.

    Args:
        place: The folder that is used, for the message.
        of: Errors to convert: Exception for object stores, whose clients have errors of their own.

    Raises:
        StorageFullError: The disk or quota is full.
        StorageUnavailableError: Reading or writing is not possible.
    """
    try:
        yield
    except (FileNotFoundError, LossServiceError):
        raise
    except of as err:
        reason = err.strerror if isinstance(err, OSError) else None
        if isinstance(err, OSError) and err.errno in FULL:
            raise StorageFullError(f"{place} is full: {reason}") from err
        # Neither the path nor the text of an unknown error belongs into a reply.
        reason = reason or type(err).__name__
        raise StorageUnavailableError(f"{place} cannot be used: {reason}", headers={"Retry-After": "30"}) from err


def cause_of(err: BaseException) -> BaseException:
    """The error that `storage_errors` has converted, or the error itself."""
    return (isinstance(err, StorageUnavailableError) and err.__cause__) or err


def is_of_machine(err: BaseException) -> bool:
    """True if an error of reading a file says nothing about the file, and may be gone soon."""
    cause = cause_of(err)
    if isinstance(cause, OSError):
        # A parser raises OSError without a number.
        return cause.errno is not None and cause.errno not in OF_ONE_FILE
    return isinstance(err, StorageUnavailableError)
