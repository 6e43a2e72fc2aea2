"""What the commands have in common: options, asking a service, ways to end, numbers as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service.errors import (
    ConflictError,
    InvalidRequestError,
    LossServiceError,
    MethodNotAllowedError,
    NotFoundError,
)

if TYPE_CHECKING:
    from service.client import LossClient

T = TypeVar("T")
SERVICE_FAILED, USAGE_ERROR, BAD_DATA, INTERRUPTED = 1, 2, 3, 130
DEFAULT_URL = "http://127.0.0.1:8000"
# A question about a run of a hundred million rows takes minutes.
ASKED_WITHIN_S = 600.0

Url = Annotated[str, typer.Option("--url", help="Address of the service; its key is FOCAL_LOSS_API_KEY.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Run = Annotated[str, typer.Argument(help="Name of the run.", show_default=False)]
Epoch = Annotated[int | None, typer.Option("--epoch", min=0, help="Default: the last one.", show_default=False)]
Alpha = Annotated[str | None, typer.Option("--alpha", help="What if: one number, one per class with commas, or none.")]
Gamma = Annotated[float | None, typer.Option("--gamma", min=0, help="What if: another gamma.")]

output = Console()
errors = Console(stderr=True)


def asked(url: str, question: Callable[[LossClient], T], timeout_s: float = 60.0) -> T:
    """The answer of a service to one question, or the end of the command with a line that says why there is none."""
    from service.client import LossClient
    from service.client.errors import ClientError
    from service.client.retry import ONCE

    try:
        with LossClient(url, retry=ONCE, timeout_s=timeout_s) as client:
            return question(client)
    except (LossServiceError, ClientError) as err:
        fail(str(err), exit_status(err))


def exit_status(error: Exception) -> int:
    """What the service refuses as asked is the command's fault, all else the service's."""
    refused = (InvalidRequestError, NotFoundError, ConflictError, MethodNotAllowedError)
    return USAGE_ERROR if isinstance(error, refused) else SERVICE_FAILED


def fail(message: str, status: int = USAGE_ERROR) -> NoReturn:
    """End with one line on standard error."""
    errors.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(status)


def said(message: str) -> None:
    """One line on standard error: what was done."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def json_text(value: Any) -> str:
    """Indented JSON."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def numbers(text: str | None, option: str = "--alpha") -> float | list[float] | None:
    """One number, or several with commas between them."""
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} {text}: a number, or numbers with commas between them")
    return found if len(found) > 1 else found[0]


def what_if(alpha: str | None, gamma: float | None) -> dict[str, Any]:
    """The arguments of a question under another loss."""
    return {"alpha": () if alpha == "none" else numbers(alpha), "gamma": gamma}


def listed(text: str | None) -> list[str] | None:
    """Names with commas between them."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def table(*columns: str, title: str | None = None) -> Table:
    """A table whose cells are plain text; names that begin with `>` head numbers."""
    headed = [
        Column(column[1:], justify="right", no_wrap=True) if column.startswith(">") else Column(column, overflow="fold")
        for column in columns
    ]
    style: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "box": SIMPLE_HEAD}
    return Table(*headed, title=title, padding=(0, 1, 0, 0), pad_edge=False, **style)


def add_row(to: Table, *cells: Any) -> None:
    """A row of plain texts and numbers."""
    to.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))


def number(value: float | None, digits: int = 4) -> str:
    """With so many significant digits; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent; a dash where there is none, and never 0 of what is not."""
    if share is None:
        return "-"
    least = 10.0 ** -(digits + 2)
    return f"<{least:.{digits}%}" if 0 < share < least else f"{share:.{digits}%}"


def class_name(label: int | None, names: list[str] | None) -> str:
    """A class as people call it."""
    if label is None:
        return "-"
    return names[label] if names is not None and label < len(names) else str(label)
