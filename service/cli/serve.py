"""`focal-loss serve`: run the service."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from service.cli.console import errors, fail
from service.cli.errors import USAGE_ERROR
from service.errors import LossServiceError

if TYPE_CHECKING:
    from service.settings import Settings

# From glibc's malloc.h.
M_ARENA_MAX = -8
# The options are those of pydantic-settings, which reads them from the arguments.
PASS_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


def serve(context: typer.Context) -> None:
    """Run the service until SIGTERM or Ctrl-C. Each setting is an option and an environment variable."""
    # Process 1 of a container has no default handler: a SIGTERM before uvicorn sets its own would be lost. uvicorn
    # raises the signal again at its end, where this handler makes the exit status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = _read_settings(context.args)
    _share_one_heap()
    try:
        from service.server.run import serve as run_server  # the base install has no torch
    except ModuleNotFoundError as err:
        fail(f"{err.name} is not installed: pip install 'focal-loss-service[server]'")
    try:
        run_server(settings)
    except LossServiceError as err:
        fail(err.detail)


def _read_settings(arguments: Sequence[str]) -> Settings:
    """Read the settings from options and environment variables; ends the command if one is invalid."""
    from pydantic import ValidationError
    from pydantic_settings import CliApp, CliSettingsSource

    from service.schema.faults import error_items
    from service.settings import ENV_PREFIX, Settings

    parser = ArgumentParser(
        prog="focal-loss serve",
        description=serve.__doc__,
        epilog=f"The environment variable of --max-body-bytes is {ENV_PREFIX}MAX_BODY_BYTES, and so on. "
        "Options override environment variables.",
        allow_abbrev=False,
    )
    source: CliSettingsSource[ArgumentParser] = CliSettingsSource(Settings, root_parser=parser, cli_kebab_case=True)
    try:
        return CliApp.run(Settings, cli_args=list(arguments), cli_settings_source=source)
    except ValidationError as err:
        for item in error_items(err, []):
            errors.print(f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}", style="red", markup=False)
        raise typer.Exit(USAGE_ERROR) from err


def _share_one_heap() -> None:
    """Make all threads share one heap of glibc's malloc, so that each can reuse memory that another has freed.

    Call it before importing torch, which starts the first thread. Worker processes read the environment variable.
    """
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
