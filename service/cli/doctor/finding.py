"""The result of examining one part of the machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Something that keeps the service from working, or from working well.

    Args:
        what: What is wrong, in one sentence.
        fix: What to do about it.
    """

    what: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """Facts about one part, as JSON values, and its problems."""

    facts: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def write_error(folder: Path) -> str:
    """Why no file can be written to an existing folder; empty if one can. A file is created and removed."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as err:
        return err.strerror or str(err)
    return ""
