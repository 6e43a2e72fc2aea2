"""`focal-loss serve`: one option for each setting."""

from __future__ import annotations

import ctypes
import inspect
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from service.cli.console import USAGE_ERROR, errors, fail
from service.errors import LossServiceError
from service.schema.faults import error_items
from service.settings import ENV_PREFIX, Settings

# Of glibc's malloc.h.
M_ARENA_MAX = -8


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each setting; the settings themselves stay where they are defined."""
    parameters = []
    for name, field in Settings.model_fields.items():
        default = "none" if field.default == () else field.default
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=f"{field.description} Default: {default}. Environment: {ENV_PREFIX}{name.upper()}.",
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _share_one_heap() -> None:
    """Have glibc's malloc use one heap for all threads: memory that one thread frees is then of use to the others.

    Has to be called before torch is imported, which starts the first thread; worker processes read the variable.
    """
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


@_with_settings
def serve(**options: Any) -> None:
    """Serve until SIGTERM or Ctrl-C. A command-line option wins over its environment variable."""
    # Process 1 of a container has no default handler: a SIGTERM before uvicorn sets its own would be lost. uvicorn
    # raises the signal again at its end, where this makes the exit status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _share_one_heap()
    try:
        from service.server.run import serve as serve_until_told  # the base install has no torch
    except ModuleNotFoundError as err:
        fail(f"{err.name} is not installed: pip install 'focal-loss-service[server]'")
    try:
        serve_until_told(Settings(**{name: value for name, value in options.items() if value is not None}))
    except ValidationError as err:
        for item in error_items(err, []):
            errors.print(f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}", style="red", markup=False)
        raise typer.Exit(USAGE_ERROR) from err
    except LossServiceError as err:
        fail(err.detail)
