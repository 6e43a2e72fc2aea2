"""Run benchmarks on this machine and print one table: `python -m benchmarks [PART]... [--case ...] [--peer ...]`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import (
    annotators,
    arrow_stream,
    growth,
    label_issues,
    loss_alone,
    over_http,
    runs,
    structured,
    structured_runs,
)
from benchmarks.gpu import kernels
from benchmarks.load import LoadError
from benchmarks.over_http import Options
from benchmarks.process import StartError
from benchmarks.report import header, insert_tables, markdown, table
from benchmarks.row import Row

Part = Callable[[Path, Options], Iterator[Row]]
PARTS: dict[str, Part] = {
    "loss": lambda folder, options: loss_alone.run(),
    "structured": lambda folder, options: structured.run(),
    "http": over_http.run,
    "growth": lambda folder, options: growth.run(folder),
    "stream": lambda folder, options: arrow_stream.run(folder),
    "runs": lambda folder, options: runs.run(folder),
    "structured-runs": lambda folder, options: structured_runs.run(folder),
    "issues": lambda folder, options: label_issues.run(),
    "annotators": lambda folder, options: annotators.run(),
    "gpu": lambda folder, options: kernels.run(),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(PARTS)}. Default: all.")] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="http: only requests with this in their name, e.g. 64x10.")
    ] = None,
    peer: Annotated[list[str] | None, typer.Option(help="http: only servers whose name contains this.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="http: number of measurements of each server.")] = over_http.ROUNDS,
    markdown_file: Annotated[
        Path | None,
        typer.Option("--markdown", help="File for the tables: between its marks, or all of it."),
    ] = None,
) -> None:
    """Run benchmarks. Exit status: 1 if a row misses its bar or a part failed, 2 if a part is unknown."""
    unknown = set(parts or ()) - set(PARTS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    console = Console(width=180)
    lines = header()
    console.print("\n\n".join(lines), highlight=False)
    measured: dict[str, list[Row]] = {}
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for name in parts or PARTS:
            console.print(f"running {name} ...")
            measured[name] = []
            try:
                for row in PARTS[name](Path(folder), Options(case or (), peer or (), rounds)):
                    console.print("   ", " | ".join(filter(None, row.cells)), highlight=False)
                    measured[name].append(row)
            except (LoadError, StartError) as err:
                failures.append(f"{name} failed: {err}")
    rows = [row for part in measured.values() for row in part]
    console.print(table(rows))
    console.print("\n".join(failures), highlight=False)
    if markdown_file is not None:
        insert_tables(markdown_file, markdown(lines, measured))
    raise typer.Exit(0 if all(row.met for row in rows) and not failures else 1)


if __name__ == "__main__":
    app()
