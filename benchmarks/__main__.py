"""Runs benchmarks on this machine and prints one table: `python -m benchmarks [PART]... [--case ...] [--peer ...]`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import arrow_stream, gpu, growth, loss_alone, over_http, runs
from benchmarks.over_http import Options
from benchmarks.report import header, markdown, table
from benchmarks.row import Row

Part = Callable[[Path, Options], Iterator[Row]]
PARTS: dict[str, Part] = {
    "loss": lambda folder, options: loss_alone.run(),
    "http": over_http.run,
    "growth": lambda folder, options: growth.run(folder),
    "stream": lambda folder, options: arrow_stream.run(folder),
    "runs": lambda folder, options: runs.run(folder),
    "gpu": lambda folder, options: gpu.run(),
}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}; none: all.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="http: requests with this in their name, e.g. 64x10.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="http: servers with this in their name.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="http: how often each server is measured.")] = over_http.ROUNDS,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the README's table here.")] = None,
) -> None:
    """Exit status 1 where a row is below its bar."""
    console = Console(width=180)
    lines = header()
    console.print("\n".join(lines), highlight=False)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in parts or PARTS:
            console.print(f"running {name} ...")
            for row in PARTS[name](Path(folder), Options(case or (), peer or (), rounds)):
                console.print("  ", *(cell for cell in row.cells if cell), sep="  ", highlight=False)
                rows.append(row)
    console.print(table(rows))
    if markdown_file is not None:
        markdown_file.write_text(markdown(lines, rows))
    raise typer.Exit(0 if all(row.met for row in rows) else 1)


app()
