"""Compare the rankings on 30 data sets: `python -m benchmarks.rankings [--markdown docs/rankings.md]`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from benchmarks.rankings.data_sets import KEEL, data_sets, imbalanced_sets
from benchmarks.rankings.experiment import findings
from benchmarks.rankings.tables import missed_bars, tables
from benchmarks.report import insert_tables

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws of the wrong labels.")] = 3,
    imbalanced: Annotated[
        bool, typer.Option("--imbalanced", help="Instead imbalanced sets, with a logistic regression and without bars.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables: between its marks, or all of it.")] = None,
) -> None:
    """Run the experiment. Exit status: 1 if `recommended` finds too few wrong labels, 2 without the data sets."""
    if not KEEL.is_dir():
        raise typer.BadParameter(f"there is no folder {KEEL}; `make rankings` installs it")
    found, start = [], time.process_time()
    sets = list(imbalanced_sets() if imbalanced else data_sets())
    for data in sets:
        # The sets are small, so that threads would only wait for each other.
        with threadpool_limits(1):
            for seed in range(seeds):
                found += findings(data, seed, linear_only=imbalanced)
        typer.echo(f"{data.name}: {data.features.shape[0]} x {data.features.shape[1]}, {data.num_classes} classes")
    seconds = time.process_time() - start
    text = f"{len(sets)} data sets, {seeds} draws each, {seconds:.0f} s of one core.\n\n{tables(found)}\n"
    missed = [] if imbalanced else missed_bars(found)
    typer.echo("\n".join([text, *missed]))
    if markdown is not None:
        insert_tables(markdown, text)
    raise typer.Exit(1 if missed else 0)


if __name__ == "__main__":
    app()
