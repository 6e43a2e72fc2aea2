"""The command `focal-loss runs`: list, show, create and delete runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import add_row, call_service, fail, info, number, output, percent, show_json, show_text, table
from service.cli.options import (
    DEFAULT_URL,
    Alpha,
    AsJson,
    ClassNames,
    ClassNamesFile,
    Clip,
    Config,
    Gamma,
    GammaNegative,
    Mode,
    RunName,
    TaskName,
    Url,
    Within,
    config_fields,
    parse_within,
    read_class_names,
)
from service.cli.runs.new_run import NewRun

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies import config, reviews
    from service.schema.replies.runs import CreatedRun

app = typer.Typer(name="runs", help="List the runs of a service; show, create or delete a run.")


@app.callback(invoke_without_command=True)
def runs(context: typer.Context, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the runs of a service; show, create or delete a run."""
    if context.invoked_subcommand is None:
        list_runs(url, as_json)


@app.command("list")
def list_runs(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the runs of a service."""
    descriptions = call_service(url, lambda client: client.runs())
    if as_json:
        show_json(descriptions)
        return
    shown = table("run", "task", ">classes", ">epochs", ">examples", "loss", ">reviewed", ">wrong", ">created")
    for run in descriptions:
        if "error" in run:
            add_row(shown, run["run"], None, None, None, None, "damaged")
            continue
        progress = run["reviews"]
        counts = run["num_classes"], len(run["epochs"]), run["num_examples"]
        reviewed = progress["num_reviewed"], progress["num_wrong"]
        add_row(
            shown, run["run"], run["task"], *counts, describe_config(run["config"]), *reviewed, run["created_at"][:10]
        )
    output.print(shown)
    for run in descriptions:
        if "error" in run:
            show_text(f"Run {run['run']} is damaged: {run['error']}")


@app.command()
def show(run: RunName, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show a run: its configuration, epochs and reviews."""
    description = call_service(url, lambda client: client.run(run).describe())
    if as_json:
        show_json(description)
        return
    names = description["class_names"]
    classes = description["num_classes"] if names is None else f"{len(names)}: {', '.join(names)}"
    for name, value in {
        "run": description["run"],
        "created": description["created_at"],
        "task": describe_task(description),
        "loss": f"{describe_config(description['config'])} ({description['config_id']})",
        "classes": classes or "set by the first batch",
        "logits": "stored" if description["store_logits"] else "not stored",
    }.items():
        show_text(f"{name:9}{value}")
    epochs = table(">epoch", ">batches", ">examples", ">ignored", ">excluded")
    for epoch in description["epochs"]:
        add_row(epochs, *epoch.values())
    output.print(epochs)
    show_reviews(description["reviews"])


@app.command()
def create(
    run: RunName,
    class_names: ClassNames = None,
    class_names_file: ClassNamesFile = None,
    config: Config = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    mode: Mode = None,
    gamma_negative: GammaNegative = None,
    clip: Clip = None,
    task: TaskName = None,
    within: Within = None,
    no_logits: Annotated[
        bool, typer.Option("--no-logits", help="Do not store logits, which need three quarters of the space.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Create a run. Nothing changes if it exists with the same description."""
    new_run = NewRun(
        config_fields(config, alpha=alpha, gamma=gamma, mode=mode, gamma_negative=gamma_negative, clip=clip),
        read_class_names(class_names, class_names_file),
        task,
        within if within is None else parse_within(within),
        store_logits=not no_logits,
    )
    call_service(url, lambda client: new_run.create(client, run))
    info(f"Created run {run}.")


@app.command()
def delete(
    run: RunName,
    epoch: Annotated[int | None, typer.Option(min=0, help="Delete only the rows of this epoch.")] = None,
    batch: Annotated[str | None, typer.Option(help="With --epoch: delete only the rows of this batch.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a run with its rows, queues and reviews, or only an epoch or a batch. This cannot be undone."""
    if epoch is None:
        if batch is not None:
            fail("--batch names a batch of an epoch: add --epoch")
        what, question = f"run {run}", f"run {run} with its rows, queues and reviews"
    else:
        what = f"epoch {epoch} of run {run}" if batch is None else f"batch {batch} of epoch {epoch} of run {run}"
        question = f"the rows of {what}"
    if not yes and not typer.confirm(f"Delete {question}?"):
        raise typer.Exit(1)
    call_service(url, lambda client: _delete(client.run(run), epoch, batch))
    info(f"Deleted {what}.")


def _delete(run: RunClient, epoch: int | None, batch: str | None) -> None:
    if epoch is None:
        run.delete()
    elif batch is None:
        run.delete_epoch(epoch)
    else:
        run.delete_batch(epoch, batch)


def show_reviews(progress: reviews.Progress) -> None:
    """Print the number of wrong labels, and the precision of each strategy; nothing without reviews."""
    if not progress["num_reviewed"]:
        return
    others = {"to exclude": progress["num_exclude"], "in conflict": progress["num_conflict"]}
    output.print(
        f"reviewed {progress['num_reviewed']}: {progress['num_wrong']} wrong, {progress['num_ok']} ok, "
        f"{progress['num_unsure']} unsure" + "".join(f", {count} {name}" for name, count in others.items() if count),
        highlight=False,
    )
    shown = table("strategy", ">reviewed", ">wrong", ">precision", "95 %")
    for strategy, precision in progress["precision"].items():
        if precision["reviewed"]:
            counts = precision["reviewed"], precision["wrong"]
            add_row(shown, strategy, *counts, percent(precision["share"]), _interval(precision))
    if shown.row_count:
        output.print(shown)
    rate = progress["error_rate"]
    if rate is not None and rate["share"] is not None:
        output.print(
            f"wrong labels in the whole run, estimated from random rows: {percent(rate['share'])} ({_interval(rate)})",
            highlight=False,
        )


def _interval(precision: reviews.Precision) -> str:
    if precision["low"] is None:
        return ""
    return f"{percent(precision['low'])} to {percent(precision['high'])}"


def describe_task(run: CreatedRun) -> str:
    """Describe the task of a run, and how the losses of its elements make that of an example."""
    if run["task"] == "classification":
        return run["task"]
    within = run["within"]
    text = within if isinstance(within, str) else f"mean of the largest {percent(within['top_share'])}"
    return f"{run['task']}, loss of an example: {text}"


def describe_config(config: config.Config) -> str:
    """Describe mode, gamma and alpha of a configuration in a few words."""
    text, alpha = f"{config['mode']}, gamma {number(config['gamma'])}", config["alpha"]
    if alpha is None:
        return text
    if isinstance(alpha, dict):
        return f"{text}, alpha by class counts ({alpha['scheme']})"
    weights = alpha if isinstance(alpha, list) else [alpha]
    return f"{text}, alpha {', '.join(map(number, weights[:4]))}{', ...' if len(weights) > 4 else ''}"
