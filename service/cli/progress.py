"""Progress of a command on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Called with the number of rows that are done since the last call.
Report: TypeAlias = Callable[[int], None]

PLAIN_LINE_EVERY_S = 5.0


@contextmanager
def shown_progress(console: Console, total: int | None, title: str) -> Iterator[Report]:
    """Show progress: a bar with rate and remaining time on a terminal, otherwise a line every few seconds.

    Args:
        console: Console of the progress bar.
        total: Number of rows; None if unknown.
        title: Text before the bar.
    """
    if not console.is_terminal:
        yield _PlainProgress(console)
        return
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("rows", total=total, rate="")
        started, done = time.monotonic(), 0

        def report(rows: int) -> None:
            nonlocal done
            done += rows
            rate = done / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=rows, rate=f"{rate:,.0f} rows/s")

        yield report


class _PlainProgress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._last_line = time.monotonic()
        self._rows = 0

    def __call__(self, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            self._console.print(f"{self._rows} rows, {self._rows / (now - self._started):.0f} rows/s", highlight=False)
