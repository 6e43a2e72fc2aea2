"""The command `focal-loss`: parse, call one function, print, exit code."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from service import __version__
from service.errors import LossServiceError
from service.messages import OnInvalid, error_items
from service.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from service.client.sync_client import LossClient

T = TypeVar("T")
USAGE_ERROR = 2
INTERRUPTED = 130
DEFAULT_URL = "http://127.0.0.1:8000"

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


@app.command()
def score(
    inputs: Annotated[
        list[str], typer.Argument(help="Parquet, Arrow, CSV, JSONL, .npz or safetensors; folders, globs, or - .")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help=".parquet, .csv, .jsonl, .arrow, or - (JSONL).")],
    input_format: Annotated[str | None, typer.Option("--format", help="Where the ending does not say.")] = None,
    logits: Annotated[str | None, typer.Option(help="A list column, or the classes' columns with commas.")] = None,
    targets: Annotated[str | None, typer.Option(help="The column of the labels.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="The column of the ids.")] = None,
    config: Annotated[str | None, typer.Option(help="A configuration as JSON, or a file with one.")] = None,
    alpha: Annotated[str | None, typer.Option(help="One number, or one per class with commas.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Focusing parameter.")] = None,
    mode: Annotated[str | None, typer.Option(help="softmax or sigmoid.")] = None,
    reduction: Annotated[str | None, typer.Option(help="mean, sum, weighted_mean or none.")] = None,
    outputs: Annotated[str, typer.Option(help="Scores, with commas.")] = "loss,contribution,p_t,prediction",
    top_k: Annotated[int, typer.Option(min=0, help="Hardest examples in the summary.")] = 10,
    on_invalid: Annotated[OnInvalid, typer.Option(help="Of a bad row: end, or leave it out.")] = "error",
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of one request, at most 64 MiB.")] = 50_000,
    url: Annotated[str, typer.Option(help="Address of the service; its key is FOCAL_LOSS_API_KEY.")] = DEFAULT_URL,
    local: Annotated[bool, typer.Option("--local", help="Compute in this process, without a service.")] = False,
    device: Annotated[str, typer.Option(help="For --local: auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an interrupted run has done.")] = False,
) -> None:
    """Score files. Run again after an interruption, it goes on where it stopped.

    Exit status: 0 done, 1 the service or the disk failed, 2 the command makes no sense, 3 the data has a bad value.
    """
    from service.scoring.columns import ColumnNames
    from service.scoring.command import ScoreCommand
    from service.scoring.errors import ScoringError

    changes: dict[str, Any] = {"alpha": _alpha(alpha), "gamma": gamma, "mode": mode, "reduction": reduction}
    command = ScoreCommand(
        inputs=tuple(inputs),
        output=output,
        input_format=input_format,
        columns=ColumnNames(tuple(logits.split(",")) if logits else None, targets, id_column),
        config=config,
        changes={name: value for name, value in changes.items() if value is not None},
        outputs=outputs,
        top_k=top_k,
        on_invalid=on_invalid,
        batch_rows=batch_rows,
        url=url,
        local=local,
        device=device,
        restart=restart,
    )
    try:
        command.run(errors)
    except ScoringError as err:
        _fail(str(err), err.exit_status)
    except BrokenPipeError as err:
        # Whoever read standard output has had enough.
        sys.stdout = None
        raise typer.Exit(1) from err
    except KeyboardInterrupt as err:
        errors.print("interrupted; the same command goes on where this one stopped", style="red")
        raise typer.Exit(INTERRUPTED) from err


def _alpha(text: str | None) -> float | list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        _fail(f"--alpha {text}: a number, or numbers with commas between them")
    return numbers if len(numbers) > 1 else numbers[0]


@app.command()
def configs(
    url: Annotated[str, typer.Option(help="Address of the service; its key is FOCAL_LOSS_API_KEY.")] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the configurations that a service holds."""
    held = _asked(url, lambda client: client.configs())
    if as_json:
        typer.echo(_json([{**vars(one), "config": one.config.model_dump(mode="json")} for one in held]))
        return
    table = Table(Column("config_id", no_wrap=True), "mode", "gamma", "alpha", "reduction", "uses", "last used")
    for one in held:
        alpha = "none" if one.alpha is None else ", ".join(f"{weight:g}" for weight in one.alpha[:8])
        used = one.last_used_at.isoformat(timespec="seconds")
        table.add_row(
            one.config_id, one.config.mode, f"{one.config.gamma:g}", alpha, one.config.reduction, str(one.uses), used
        )
    Console().print(table)


@app.command()
def info(
    url: Annotated[str, typer.Option(help="Address of the service; its key is FOCAL_LOSS_API_KEY.")] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what answers at an address: version, device, readiness."""
    found = _asked(url, lambda client: client.info())
    if as_json:
        typer.echo(_json({**vars(found), "client_version": __version__}))
        return
    ready = "yes" if found.ready else f"no: {found.reason}"
    typer.echo(
        f"url      {found.url}\nservice  {found.version}\nclient   {__version__}\n"
        f"device   {found.device or 'unknown'}\nready    {ready}"
    )


def _asked(url: str, question: Callable[[LossClient], T]) -> T:
    from service.client.errors import ClientError
    from service.client.retry import ONCE
    from service.client.sync_client import LossClient

    try:
        with LossClient(url, retry=ONCE) as client:
            return question(client)
    except (LossServiceError, ClientError) as err:
        _fail(str(err), 1)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _fail(message: str, exit_status: int = USAGE_ERROR) -> NoReturn:
    errors.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(exit_status)


def main() -> None:
    """Entry point of `focal-loss` and `python -m service`."""
    app()
