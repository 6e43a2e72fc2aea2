"""Names of runs, batches and queues; they are used as file names."""

from __future__ import annotations

import re

from service.errors import InvalidNameError
from service.schema.faults import fault

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def check_name(kind: str, name: str) -> str:
    """Return the name if it is valid.

    Args:
        kind: `run`, `batch` or `queue`, for the error.
        name: 1 to 100 characters of `A-Z a-z 0-9 . _ -`; the first is not a dot.

    Raises:
        InvalidNameError: The name is not valid.
    """
    if not NAME.fullmatch(name):
        msg = (
            f"a {kind} has a name of 1 to 100 characters A-Z a-z 0-9 . _ -, not starting with a dot, got {name[:120]!r}"
        )
        raise fault(InvalidNameError, msg, kind)
    return name
