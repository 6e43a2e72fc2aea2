"""The argument of every peer."""

from __future__ import annotations

import sys


def port() -> int:
    """Return the port of 127.0.0.1 to listen on."""
    return int(sys.argv[1])
