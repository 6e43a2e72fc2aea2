"""Checks of folders."""

from __future__ import annotations

import tempfile
from pathlib import Path


def existing_parent(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def write_error(folder: Path) -> str:
    """Create and delete a file in an existing folder. Returns the error, or an empty text without one."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as err:
        return err.strerror or str(err)
    return ""
