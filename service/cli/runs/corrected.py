"""The command `focal-loss corrected`: the data set with the labels that its reviews settle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import QUERY_TIMEOUT_S, call_service, command_errors, fail, info
from service.cli.errors import SERVICE_FAILED, UsageError
from service.cli.options import DEFAULT_URL, FILES, Encoding, IdColumn, RunName, Separator, Url
from service.schema.replies.corrected import CorrectedFormat, CorrectedPolicy

if TYPE_CHECKING:
    from service.cli.relabel.rows import ColumnOptions, Relabeller

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
    policy: Annotated[
        CorrectedPolicy,
        typer.Option(
            help="Source of the labels to use: the reviews; where they settle nothing, the consensus of annotators, or "
            "suggestions that reviews prove to be precise."
        ),
    ] = "reviewed",
    like: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSONL or Parquet file to write again with the labels to use, and with given_label, status and "
            "reviewers after its own columns.",
            rich_help_panel=FILES,
            show_default=False,
        ),
    ] = None,
    id_column: IdColumn = None,
    label_column: Annotated[
        str | None, typer.Option("--label", help="Column of the labels.", rich_help_panel=FILES)
    ] = None,
    number_rows: Annotated[
        bool,
        typer.Option("--number-rows", help="Use the number of each row as its id.", rich_help_panel=FILES),
    ] = False,
    separator: Separator = None,
    encoding: Encoding = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write the data set of a run with the labels that its reviews settle: every example with the label to use.

    Exit status: 0 success, 1 the service failed, 2 usage error, 3 invalid data in the file.
    """
    if not path.parent.is_dir():
        fail(f"{path.parent}: no such folder")
    if like is not None:
        from service.cli.relabel.rows import ColumnOptions

        _write_like(
            url, run, policy, like, path, ColumnOptions(id_column, label_column, number_rows), separator, encoding
        )
        return
    if id_column or label_column or number_rows or separator or encoding:
        fail("--id, --label, --number-rows, --separator and --encoding describe the file of --like")
    written = format_name or _format_of(path)
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


def _write_like(
    url: str,
    run: str,
    policy: CorrectedPolicy,
    like: Path,
    path: Path,
    options: ColumnOptions,
    separator: str | None,
    encoding: str | None,
) -> None:
    from service.cli.relabel.corrections import downloaded
    from service.cli.relabel.relabel import format_of, relabel_file
    from service.cli.relabel.rows import Relabeller
    from service.client import LossClient
    from service.formats.labels import ClassNames

    def write(client: LossClient) -> Relabeller:
        description = client.run(run).describe()
        is_structured = description["task"] != "classification"
        if is_structured and kind == "csv":
            raise UsageError(f"{like}: the labels of the task {description['task']} are lists: use JSONL or Parquet")
        # The names of a run of several labels are those of its labels.
        names = None if description["task"] == "multi_label" else description["class_names"]
        with downloaded(client.run(run), policy) as corrections:
            # Elements without a label to use are ignored when the file is used again.
            ignored = description["config"]["ignore_index"] if is_structured else None
            relabeller = Relabeller(corrections, None if names is None else ClassNames(names), ignored)
            relabel_file(like, path, options, relabeller, separator=separator, encoding=encoding)
        return relabeller

    with command_errors("Interrupted."):
        kind = format_of(like, path)
        relabeller = call_service(url, write, QUERY_TIMEOUT_S)
    _show_counts(path, relabeller)


def _show_counts(path: Path, relabeller: Relabeller) -> None:
    counts = [f"{number} {status}" for status, number in sorted(relabeller.counts.items())]
    if relabeller.num_unknown:
        counts.append(f"{relabeller.num_unknown} unreviewed that the run does not have")
    info(f"Wrote {path}: {', '.join(counts) or 'no rows'}.")
