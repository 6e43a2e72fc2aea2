"""Names of runs, batches and queues: they become file names, so nothing else is let in."""

from __future__ import annotations

import re

from service.errors import InvalidNameError

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def check_name(kind: str, name: str) -> str:
    """The name, where it is one.

    Args:
        kind: What it names, for the error: `run`, `batch` or `queue`.
        name: 1 to 100 of `A-Z a-z 0-9 . _ -`, the first no dot.

    Raises:
        InvalidNameError: It is none.
    """
    if not NAME.fullmatch(name):
        msg = (
            f"a {kind} has a name of 1 to 100 characters A-Z a-z 0-9 . _ -, not starting with a dot, got {name[:120]!r}"
        )
        raise InvalidNameError(msg, errors=[{"loc": [kind], "msg": msg}])
    return name
