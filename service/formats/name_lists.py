"""Lists of names in a text, as in query parameters and command-line options."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def split_names(text: str | None) -> list[str] | None:
    """Split comma-separated names, without the spaces around them and without empty names; None for None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def split_quoted_names(texts: Iterable[str] | None) -> list[str] | None:
    """Split each text at its commas, and join the lists; None for None.

    As in CSV, a name in double quotes may hold commas and spaces at its ends, and `""` in it is one quote.
    """
    return None if texts is None else [name for text in texts for name in _split_quoted(text)]


def _split_quoted(text: str) -> list[str]:
    if '"' not in text:
        return split_names(text) or []
    return [name for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) for name in row if name]
