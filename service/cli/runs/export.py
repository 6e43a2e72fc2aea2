"""`focal-loss export`: which format an ending says."""

from __future__ import annotations

from pathlib import Path

from service.cli.console import fail

# Longer endings first.
ENDINGS = {
    ".label-studio.json": "label-studio",
    ".argilla.jsonl": "argilla",
    ".labels.json": "fiftyone",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def format_of(path: Path) -> str:
    """The format of a file by the end of its name, where that leaves no doubt."""
    for ending, name in ENDINGS.items():
        if path.name.lower().endswith(ending):
            return name
    fail(f"{path}: its ending does not say the format: give --format, or one of {', '.join(ENDINGS)}")
