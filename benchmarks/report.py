"""Description of the machine and the versions, and the tables for the terminal and the documentation."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.contenders import OURS, PEERS
from benchmarks.row import COLUMNS, Row
from service.server.run import number_of_processes
from service.settings import Settings

BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->"
TITLES = {
    "loss": "the loss in one process",
    "structured": "masks and tokens in one process",
    "http": "over HTTP",
    "growth": "under more clients and more load",
    "stream": "streams",
    "runs": "runs",
    "structured-runs": "runs of masks and of several labels",
    "issues": "label issues of elements in one process",
    "annotators": "several annotators in one process",
    "gpu": "on a GPU",
}


def header() -> list[str]:
    """Describe the machine, the service and the peers, a paragraph each."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    peers = [f"{peer.name} ({peer.distribution} {peer.version()}: {peer.setting})" for peer in PEERS]
    return [
        f"Machine: {_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, {gpu}.",
        f"Ours: focal-loss-service {OURS.version()}, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, default settings, which here are {number_of_processes(Settings())} "
        f"processes. Load: {_wrk()}.",
        f"Peers: {'; '.join(peers)}.",
    ]


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _wrk() -> str:
    if shutil.which("wrk") is None:
        return "wrk is not installed"
    # wrk --version exits with status 1.
    output = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return "wrk " + output.split()[1].removeprefix("debian/")


def table(rows: Sequence[Row]) -> Table:
    """Build the table for the terminal."""
    result = Table()
    for column in COLUMNS:
        result.add_column(column)
    for row in rows:
        result.add_row(*row.cells)
    return result


def markdown(lines: Sequence[str], measured: Mapping[str, Sequence[Row]]) -> str:
    """Write a Markdown table for each part, after the description."""
    blocks = ["\n\n".join(lines)]
    for name, rows in measured.items():
        header_rows = [f"| {TITLES.get(name, name)} | {' | '.join(COLUMNS[1:])} |", "|" + "---|" * len(COLUMNS)]
        body = [f"| {' | '.join(_escape(cell) for cell in row.cells)} |" for row in rows]
        blocks.append("\n".join([*header_rows, *body]))
    return "\n\n".join(blocks) + "\n"


def _escape(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def insert_tables(path: Path, text: str) -> None:
    """Replace the text between the marks of a file, or the whole file if it has no marks."""
    old = path.read_text() if path.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{begin}\n{text}{end}{after}" if begin and end else text)
