"""The command `focal-loss`: parse, call one function, print, exit code."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from service import __version__
from service.errors import LossServiceError
from service.messages import error_items
from service.settings import ENV_PREFIX, Settings

USAGE_ERROR = 2

app = typer.Typer(name="focal-loss", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
errors = Console(stderr=True)


@app.callback()
def focal_loss() -> None:
    """Focal loss as a service: which examples hurt a model most, and why."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


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


@app.command()
@_with_settings
def serve(**options: Any) -> None:
    """Serve until SIGTERM or Ctrl-C. A command-line option wins over its environment variable."""
    # As process 1 of a container there is no default: a SIGTERM before uvicorn's handler is set would be lost.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        from service.server import serve as serve_until_told  # the base install has no torch
    except ModuleNotFoundError as err:
        _fail(f"{err.name} is not installed: pip install 'focal-loss-service[server]'")
    try:
        serve_until_told(Settings(**{name: value for name, value in options.items() if value is not None}))
    except ValidationError as err:
        for item in error_items(err, []):
            errors.print(f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}", style="red", markup=False)
        raise typer.Exit(USAGE_ERROR) from err
    except LossServiceError as err:
        _fail(err.detail)


def _fail(message: str) -> None:
    errors.print(message, style="red", markup=False)
    raise typer.Exit(USAGE_ERROR)


def main() -> None:
    """Entry point of `focal-loss` and `python -m service`."""
    app()
