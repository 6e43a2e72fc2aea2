"""Output of the commands: messages, tables, numbers as text; calls of a service, and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from service.cli.errors import (
    INTERRUPTED,
    SERVICE_FAILED,
    UNEXPECTED,
    USAGE_ERROR,
    CommandError,
    exit_status,
    place_in_code,
)
from service.cli.terminal import SafeConsole
from service.errors import LossServiceError
from service.visible import visible_json

if TYPE_CHECKING:
    from service.client import LossClient

T = TypeVar("T")
# A query over a run of a hundred million rows takes minutes.
QUERY_TIMEOUT_S = 600.0

output = SafeConsole()
errors = SafeConsole(stderr=True)


def call_service(url: str, request: Callable[[LossClient], T], timeout_s: float = 60.0) -> T:
    """Send a request to a service without retries; a failure ends the command with its message."""
    from service.client import LossClient
    from service.client.errors import ClientError
    from service.client.retry import NO_RETRIES

    try:
        with LossClient(url, retry=NO_RETRIES, timeout_s=timeout_s) as client:
            return request(client)
    except (LossServiceError, ClientError) as err:
        fail(str(err), exit_status(err))
    except KeyboardInterrupt as err:
        errors.print("Interrupted.", style="red")
        raise typer.Exit(INTERRUPTED) from err


@contextmanager
def command_errors(interrupted: str) -> Iterator[None]:
    """End the command at an error or Ctrl-C, with a message and an exit status.

    Args:
        interrupted: Message after Ctrl-C.
    """
    try:
        yield
    except CommandError as err:
        fail(str(err), err.exit_status)
    except BrokenPipeError as err:
        end_output()
        raise typer.Exit(SERVICE_FAILED) from err
    except OSError as err:
        fail(str(err), SERVICE_FAILED)
    except KeyboardInterrupt as err:
        errors.print(interrupted, style="red")
        raise typer.Exit(INTERRUPTED) from err


@contextmanager
def last_errors() -> Iterator[None]:
    """End the process at an error that no command expects, with a sentence instead of a traceback."""
    try:
        yield
    except BrokenPipeError:
        end_output()
        sys.exit(SERVICE_FAILED)
    except OSError as err:
        show_error(str(err))
        sys.exit(SERVICE_FAILED)
    except Exception as err:
        show_error(f"focal-loss failed: {type(err).__name__}: {err} ({place_in_code(err)}). Please report this.")
        sys.exit(UNEXPECTED)


def end_output() -> None:
    """Write nothing more to standard output, whose reader has closed it: Python must not flush it at exit."""
    sys.stdout = None


def show_error(message: str) -> None:
    """Print a message in red on standard error, without wrapping it."""
    errors.print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def fail(message: str, status: int = USAGE_ERROR) -> NoReturn:
    """Print a message on standard error and end the command."""
    show_error(message)
    raise typer.Exit(status)


def info(message: str) -> None:
    """Print a message on standard error."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file; a failure ends the command."""
    try:
        path.write_bytes(content)
    except OSError as err:
        fail(f"{path}: {err}", SERVICE_FAILED)


def show_json(value: object) -> None:
    """Print indented JSON."""
    typer.echo(visible_json(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))


def show_text(text: str) -> None:
    """Print lines of text as they are, without wrapping them."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)


def table(*columns: str, title: str | None = None) -> Table:
    """Create a table; columns whose name begins with `>` are right-aligned."""
    header = [
        Column(column[1:], justify="right", no_wrap=True) if column.startswith(">") else Column(column, overflow="fold")
        for column in columns
    ]
    return Table(
        *header,
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def add_row(to: Table, *cells: object) -> None:
    """Add a row of texts and numbers without markup; None is an empty cell."""
    to.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))


def number(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits; a dash for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent; a dash for None. Only 0 is shown as 0 %: smaller shares are `<0.1%`."""
    if share is None:
        return "-"
    smallest = 10.0 ** -(digits + 2)
    return f"<{smallest:.{digits}%}" if 0 < share < smallest else f"{share:.{digits}%}"


def class_name(label: int | None, names: Sequence[str] | None) -> str:
    """The name of a class, or its number if it has none; a dash for None."""
    if label is None:
        return "-"
    return names[label] if names is not None and label < len(names) else str(label)
