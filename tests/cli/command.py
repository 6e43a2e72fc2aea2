"""The command `focal-loss` in this process, which saves the start of an interpreter for each call."""

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
    """How a command ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: Any, stdin: str | None = None, **settings: str) -> Ended:
    """Run the command in an environment without settings of the service but those given; 200 columns are its width.

    Raises:
        Exception: Whatever the command does not handle, of which a process would show the traceback.
    """
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("FOCAL_LOSS_")}
    environment |= {f"FOCAL_LOSS_{name.upper()}": value for name, value in settings.items()} | {"COLUMNS": "200"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(console.output, "_width", 200),
            mock.patch.object(console.errors, "_width", 200),
            # The heaps of this process stay as they are.
            mock.patch.object(serve, "_share_one_heap"),
        ):
            ended = CliRunner().invoke(main.app, [str(word) for word in words], input=stdin, env=environment)
    finally:
        signal.signal(signal.SIGTERM, handler)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)
