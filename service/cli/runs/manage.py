"""`focal-loss runs`: list, show, create and delete them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.console import (
    DEFAULT_URL,
    AsJson,
    Run,
    Url,
    add_row,
    asked,
    fail,
    json_text,
    listed,
    number,
    numbers,
    output,
    percent,
    said,
    table,
)
from service.schema.replies.config import Config
from service.schema.replies.reviews import Precision, Progress

app = typer.Typer(name="runs", help="List the runs that a service keeps; show, create or delete one.")


@app.callback(invoke_without_command=True)
def runs(context: typer.Context, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the runs that a service keeps; show, create or delete one."""
    if context.invoked_subcommand is None:
        list_runs(url, as_json)


@app.command("list")
def list_runs(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the runs that a service keeps."""
    kept = asked(url, lambda client: client.runs())
    if as_json:
        typer.echo(json_text(kept))
        return
    shown = table("run", ">classes", ">epochs", ">examples", "loss", ">reviewed", ">wrong", ">created")
    for one in kept:
        reviews = one["reviews"]
        counts = len(one["epochs"]), one["num_examples"]
        reviewed = reviews["num_reviewed"], reviews["num_wrong"]
        add_row(shown, one["run"], one["num_classes"], *counts, _loss(one["config"]), *reviewed, one["created_at"][:10])
    output.print(shown)


@app.command()
def show(run: Run, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one run: its configuration, epochs, and what its reviews say so far."""
    one = asked(url, lambda client: client.run(run).describe())
    if as_json:
        typer.echo(json_text(one))
        return
    names = one["class_names"]
    classes = one["num_classes"] if names is None else f"{len(names)}: {', '.join(names)}"
    for name, value in {
        "run": one["run"],
        "created": one["created_at"],
        "loss": f"{_loss(one['config'])} ({one['config_id']})",
        "classes": classes or "as the first batch has them",
        "logits": "kept" if one["store_logits"] else "not kept",
    }.items():
        typer.echo(f"{name:9}{value}")
    epochs = table(">epoch", ">batches", ">examples", ">ignored", ">excluded")
    for epoch in one["epochs"]:
        add_row(epochs, *epoch.values())
    output.print(epochs)
    show_reviews(one["reviews"])


@app.command()
def create(
    run: Run,
    class_names: Annotated[str | None, typer.Option(help="One for each class, with commas.")] = None,
    config: Annotated[str | None, typer.Option(help="A configuration as JSON, or a file with one.")] = None,
    alpha: Annotated[str | None, typer.Option(help="One number, or one per class with commas.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Focusing parameter.")] = None,
    mode: Annotated[str | None, typer.Option(help="softmax or sigmoid.")] = None,
    no_logits: Annotated[bool, typer.Option("--no-logits", help="Do not keep logits: a quarter of the room.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a run; again with the same description it changes nothing."""
    description: dict[str, Any] = {
        "config": config_from(config, alpha=numbers(alpha), gamma=gamma, mode=mode),
        "class_names": listed(class_names),
        "store_logits": not no_logits,
    }
    asked(url, lambda client: client.put_run(run, **description))
    said(f"run {run} is there")


@app.command()
def delete(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a run with its rows, queues and reviews. It cannot be brought back."""
    if not yes and not typer.confirm(f"delete run {run} with all that belongs to it?"):
        raise typer.Exit(1)
    asked(url, lambda client: client.run(run).delete())
    said(f"run {run} is deleted")


def config_from(config: str | None, **changes: Any) -> dict[str, Any]:
    """A configuration as given by options."""
    from service.cli.score.command import config_fields
    from service.cli.score.errors import UsageError

    try:
        return config_fields(config) | {name: value for name, value in changes.items() if value is not None}
    except UsageError as err:
        fail(str(err))


def show_reviews(reviews: Progress) -> None:
    """Print how many labels were wrong, and how often each strategy was right."""
    if not reviews["num_reviewed"]:
        return
    output.print(
        f"reviewed {reviews['num_reviewed']}: {reviews['num_wrong']} wrong, {reviews['num_ok']} ok, "
        f"{reviews['num_unsure']} unsure",
        highlight=False,
    )
    shown = table("strategy", ">reviewed", ">wrong", ">precision", "95 %")
    for strategy, one in reviews["precision"].items():
        if one["reviewed"]:
            add_row(shown, strategy, one["reviewed"], one["wrong"], percent(one["share"]), _interval(one))
    if shown.row_count:
        output.print(shown)
    rate = reviews["error_rate"]
    if rate is not None and rate["share"] is not None:
        output.print(
            f"wrong labels in the whole run, from its random rows: {percent(rate['share'])} ({_interval(rate)})",
            highlight=False,
        )


def _interval(share: Precision) -> str:
    return "" if share["low"] is None else f"{percent(share['low'])} to {percent(share['high'])}"


def _loss(config: Config) -> str:
    alpha, told = config["alpha"], f"{config['mode']}, gamma {number(config['gamma'])}"
    if alpha is None:
        return told
    if isinstance(alpha, dict):
        return f"{told}, alpha by class counts ({alpha['scheme']})"
    weights = alpha if isinstance(alpha, list) else [alpha]
    return f"{told}, alpha {', '.join(map(number, weights[:4]))}{', ...' if len(weights) > 4 else ''}"
