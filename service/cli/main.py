"""The command `focal-loss`: parse, call one function, print, exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from service import __version__
from service.cli.console import (
    DEFAULT_URL,
    INTERRUPTED,
    AsJson,
    Url,
    asked,
    errors,
    fail,
    json_text,
    numbers,
    output,
)
from service.cli.doctor.command import doctor
from service.cli.runs.commands import register
from service.cli.runs.manage import app as runs_app
from service.cli.serve import serve
from service.schema.request import OnInvalid

app = typer.Typer(name="focal-loss", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(runs_app)
app.command()(serve)


@app.callback()
def focal_loss() -> None:
    """Focal loss as a service: which examples hurt a model most, and why."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


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
    url: Url = DEFAULT_URL,
    local: Annotated[bool, typer.Option("--local", help="Compute in this process, without a service.")] = False,
    device: Annotated[str, typer.Option(help="For --local: auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an interrupted run has done.")] = False,
) -> None:
    """Score files. Run again after an interruption, it goes on where it stopped.

    Exit status: 0 done, 1 the service or the disk failed, 2 the command makes no sense, 3 the data has a bad value.
    """
    from service.cli.score.columns import ColumnNames
    from service.cli.score.command import ScoreCommand
    from service.cli.score.errors import ScoringError

    changes: dict[str, Any] = {"alpha": numbers(alpha), "gamma": gamma, "mode": mode, "reduction": reduction}
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
        fail(str(err), err.exit_status)
    except BrokenPipeError as err:
        # Whoever read standard output has had enough.
        sys.stdout = None
        raise typer.Exit(1) from err
    except KeyboardInterrupt as err:
        errors.print("interrupted; the same command goes on where this one stopped", style="red")
        raise typer.Exit(INTERRUPTED) from err


@app.command()
def configs(
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the configurations that a service holds."""
    held = asked(url, lambda client: client.configs())
    if as_json:
        typer.echo(json_text([{**vars(one), "config": one.config.model_dump(mode="json")} for one in held]))
        return
    table = Table(Column("config_id", no_wrap=True), "mode", "gamma", "alpha", "reduction", "uses", "last used")
    for one in held:
        alpha = "none" if one.alpha is None else ", ".join(f"{weight:g}" for weight in one.alpha[:8])
        used = one.last_used_at.isoformat(timespec="seconds")
        table.add_row(
            one.config_id, one.config.mode, f"{one.config.gamma:g}", alpha, one.config.reduction, str(one.uses), used
        )
    output.print(table)


@app.command()
def info(
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Say what answers at an address: version, device, readiness."""
    found = asked(url, lambda client: client.info())
    if as_json:
        typer.echo(json_text({**vars(found), "client_version": __version__}))
        return
    ready = "yes" if found.ready else f"no: {found.reason}"
    typer.echo(
        f"url      {found.url}\nservice  {found.version}\nclient   {__version__}\n"
        f"device   {found.device or 'unknown'}\nready    {ready}"
    )


app.command()(doctor)
register(app)


def main() -> None:
    """Entry point of `focal-loss` and `python -m service`."""
    app()
