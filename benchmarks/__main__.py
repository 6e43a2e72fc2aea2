"""Runs every benchmark in one process group, on this machine, and prints one table."""

from __future__ import annotations

import platform
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import arrow_stream, loss_alone, runs
from benchmarks.row import Row
from service import __version__


def main() -> int:
    console = Console(width=150)
    console.print(
        f"focal-loss-service {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}"
    )
    rows: list[Row] = []
    for benchmark in (loss_alone, arrow_stream, runs):
        console.print(f"running {benchmark.__name__} ...")
        rows += benchmark.run()
    table = Table()
    for column in ("what", "ours", "other", "ratio", "spread", "bar"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.ours, row.other, row.ratio, row.spread, row.verdict)
    console.print(table)
    return 0 if all(row.met for row in rows) else 1


sys.exit(main())
