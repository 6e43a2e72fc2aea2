"""Run `focal-loss` in this process, which is faster than starting an interpreter."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any
from unittest import mock

from typer.testing import CliRunner

from service.cli import console, main, serve


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: Any, stdin: str | None = None, **settings: str) -> Ended:
    """Run the command with these settings as its only `FOCAL_LOSS_*` variables, 200 columns wide.

    Raises:
        Exception: An exception that the command does not handle; a process would print its traceback.
    """
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("FOCAL_LOSS_")}
    environment |= {f"FOCAL_LOSS_{name.upper()}": value for name, value in settings.items()} | {"COLUMNS": "200"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(console.output, "_width", 200),
            mock.patch.object(console.errors, "_width", 200),
            # Do not change the heaps of this process.
            mock.patch.object(serve, "_share_one_heap"),
        ):
            ended = CliRunner().invoke(main.app, [str(word) for word in words], input=stdin, env=environment)
    finally:
        signal.signal(signal.SIGTERM, handler)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)
