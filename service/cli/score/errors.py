"""What ends a scoring run, and the exit status that says so.

- 0: done
- 1: the service or the disk failed; the same command goes on where it stopped
- 2: the command says something that cannot be done
- 3: the data has a value that cannot be scored; the message names file, row and column
"""

from __future__ import annotations

from typing import ClassVar


class ScoringError(Exception):
    """The run ends here."""

    exit_status: ClassVar[int] = 1


class UsageError(ScoringError):
    """Options or files that do not fit together."""

    exit_status = 2


class DataError(ScoringError):
    """A value that cannot be scored."""

    exit_status = 3
