"""The machine, the versions, and the table: on the terminal and for the README."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.contenders import OURS, PEERS
from benchmarks.row import COLUMNS, Row


def header() -> list[str]:
    """What measured, and what is measured."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    peers = [f"{peer.name} ({peer.distribution} {peer.version()}: {peer.setting})" for peer in PEERS]
    return [
        f"Machine: {_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, {gpu}.",
        f"Ours: focal-loss-service {OURS.version()}, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, default settings. Load: {_wrk()}.",
        f"Peers: {'; '.join(peers)}.",
    ]


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _wrk() -> str:
    if shutil.which("wrk") is None:
        return "wrk is not installed"
    # wrk has no exit status of its own for --version.
    shown = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return "wrk " + shown.split()[1].removeprefix("debian/")


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    made = Table()
    for column in COLUMNS:
        made.add_column(column)
    for row in rows:
        made.add_row(*row.cells)
    return made


def markdown(lines: Sequence[str], rows: Sequence[Row]) -> str:
    """The same for the README."""
    head = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells)} |" for row in rows]
    return "\n".join([*lines, "", *head, *body, ""])
