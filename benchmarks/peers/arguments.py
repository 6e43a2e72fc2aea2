"""The one argument of every peer."""

from __future__ import annotations

import sys


def port() -> int:
    """Where to listen on 127.0.0.1."""
    return int(sys.argv[1])
