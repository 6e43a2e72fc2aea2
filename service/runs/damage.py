"""Damaged files: a failure to read a file of a run becomes an error that names the run and the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import structlog
from cachetools import TTLCache
from pydantic import ValidationError

from service.errors import LossServiceError, RunDamagedError, StorageUnavailableError
from service.schema.faults import error_items, summary
from service.storage.errors import cause_of, is_of_machine

# Format of `run.json` and of the footers of data files; earlier versions do not read `run.json` of a run of structured
# examples, which have other columns.
FORMAT = 1
STRUCTURED_FORMAT = 2
LOGGED_AGAIN_AFTER_S = 60.0

log = structlog.get_logger("service.runs")
_logged: TTLCache[str, None] = TTLCache(1000, LOGGED_AGAIN_AFTER_S)
_lock = Lock()


@contextmanager
def named_damage(path: str) -> Iterator[None]:
    """Convert any failure to read or parse a file of a run to an error that names run and file.

    Args:
        path: Path of the file in the data directory, `runs/<run>/...`.

    Raises:
        FileNotFoundError: There is no such file.
        RunDamagedError: The file cannot be read.
        StorageUnavailableError: The machine cannot read files now.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as err:
        cause = cause_of(err)
        if is_of_machine(err):
            if isinstance(err, StorageUnavailableError):
                raise
            raise StorageUnavailableError(f"a file of a run cannot be read now: {short_text(cause)}") from err
        if isinstance(cause, LossServiceError):
            raise
        raise damage(path, f"cannot be read: {short_text(cause)}") from err


def damage(path: str, reason: str) -> RunDamagedError:
    """The error of a damaged file.

    Args:
        path: Path of the file in the data directory, `runs/<run>/...`.
        reason: The fault, to follow the name of the file.
    """
    _, run, *rest = path.split("/")
    # Next to run.json, all files are in the folder of the run's uid.
    return RunDamagedError.of(run, "/".join(rest[1:] or rest), reason)


def check_format(path: str, number: object, newest: int = FORMAT) -> None:
    """Check the member `format` of a file.

    Args:
        path: Path of the file in the data directory.
        number: The member; 1 if the file has none.
        newest: The newest format of such a file.

    Raises:
        RunDamagedError: Another version wrote the file, or the member is not an integer >= 1.
    """
    if type(number) is not int or number < 1:
        raise damage(path, "cannot be read: its format is not a number")
    if number > newest:
        raise damage(path, f"was written by a newer version (format {number}); this one reads {newest}")


def log_damage(error: RunDamagedError) -> None:
    """Log an error of a damaged file, at most once a minute for each file."""
    with _lock:
        if error.detail in _logged:
            return
        _logged[error.detail] = None
    log.error("run damaged", detail=error.detail)


def short_text(err: BaseException) -> str:
    """The message of an error in one short line."""
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    if isinstance(err, ValidationError):
        return summary(error_items(err, ()))[:200]
    try:
        text = str(err)
    except Exception:
        # A native parser may put bytes of the file, which are not UTF-8, into its message.
        text = ""
    lines = text.splitlines()
    return lines[0][:200] if lines else type(err).__name__
