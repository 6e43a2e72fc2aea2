"""The command `focal-loss corrected`: the data set with the labels that its reviews settle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.console import QUERY_TIMEOUT_S, call_service, fail, info
from service.cli.errors import SERVICE_FAILED
from service.cli.options import DEFAULT_URL, RunName, Url
from service.schema.replies.corrected import CorrectedFormat, CorrectedPolicy

# Longer extensions first.
EXTENSIONS: dict[str, CorrectedFormat] = {
    ".label-studio.json": "label-studio",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def corrected(
    run: RunName,
    path: Annotated[Path, typer.Option("--output", "-o", help="Output file.")],
    format_name: Annotated[
        CorrectedFormat | None,
        typer.Option("--format", help="Format of the file; default: by the file extension.", show_default=False),
    ] = None,
    policy: Annotated[CorrectedPolicy, typer.Option(help="Source of the labels to use.")] = "reviewed",
    url: Url = DEFAULT_URL,
) -> None:
    """Write the data set of a run with the labels that its reviews settle: every example with the label to use."""
    written = format_name or _format_of(path)
    if not path.parent.is_dir():
        fail(f"{path.parent}: no such folder")
    try:
        call_service(
            url, lambda client: client.run(run).corrected(path, format=written, policy=policy), QUERY_TIMEOUT_S
        )
    except OSError as err:
        fail(f"{path}: {err}", SERVICE_FAILED)
    info(f"Wrote {path} ({written}).")


def _format_of(path: Path) -> CorrectedFormat:
    """The format of a file by its extension; ends the command if the extension is unknown."""
    for extension, name in EXTENSIONS.items():
        if path.name.lower().endswith(extension):
            return name
    fail(f"{path}: unknown extension: use --format, or one of {', '.join(EXTENSIONS)}")
