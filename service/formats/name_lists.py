"""Lists of names in a text, as in query parameters and command-line options."""

from __future__ import annotations


def split_names(text: str | None) -> list[str] | None:
    """Split comma-separated names, without the spaces around them and without empty names; None for None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
