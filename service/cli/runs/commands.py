"""The commands about runs, with their options; what they do stands in the modules beside, loaded when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.console import (
    ASKED_WITHIN_S,
    DEFAULT_URL,
    INTERRUPTED,
    Alpha,
    AsJson,
    Epoch,
    Gamma,
    Run,
    Url,
    asked,
    errors,
    fail,
    json_text,
    listed,
    numbers,
    output,
    said,
    what_if,
)
from service.cli.runs.manage import config_from
from service.schema.request import OnInvalid

Output = Annotated[str | None, typer.Option("--output", "-o", help=".csv, .jsonl or .json; default: a table.")]


def push(
    run: Run,
    inputs: Annotated[
        list[str], typer.Argument(help="Parquet, Arrow, CSV, JSONL, .npz or safetensors; folders, globs, or - .")
    ],
    epoch: Annotated[int, typer.Option(min=0, help="Of the rows.", show_default=False)],
    input_format: Annotated[str | None, typer.Option("--format", help="Where the ending does not say.")] = None,
    logits: Annotated[str | None, typer.Option(help="A list column, or the classes' columns with commas.")] = None,
    targets: Annotated[str | None, typer.Option(help="The column of the labels.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="The column of the ids.")] = None,
    number_rows: Annotated[
        bool, typer.Option("--number-rows", help="Ids are the rows' numbers, over all files.")
    ] = False,
    attributes: Annotated[
        str | None, typer.Option(help="Further columns to keep, with commas, or all; lists as JSON.")
    ] = None,
    on_invalid: Annotated[OnInvalid, typer.Option(help="Of a bad row: end, or leave it out.")] = "error",
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of one batch, at most 64 MiB.")] = 20_000,
    prefix: Annotated[str | None, typer.Option(help="Begins the batches' names, instead of the file's path.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the run if it is not there.")] = False,
    class_names: Annotated[str | None, typer.Option(help="For --create: one for each class, with commas.")] = None,
    config: Annotated[str | None, typer.Option(help="For --create: a configuration as JSON, or a file.")] = None,
    alpha: Annotated[str | None, typer.Option(help="For --create: one number, or one per class with commas.")] = None,
    gamma: Annotated[float | None, typer.Option(help="For --create: focusing parameter.")] = None,
    mode: Annotated[str | None, typer.Option(help="For --create: softmax or sigmoid.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Put files of logits and targets into a run. Interrupted, it is given again: each row is kept once.

    Exit status: 0 done, 1 the service failed, 2 the command makes no sense, 3 the data has a bad value.
    """
    from service.cli.runs.push import PushCommand
    from service.cli.score.columns import ColumnNames
    from service.cli.score.errors import ScoringError

    kept = None if attributes == "all" else tuple(listed(attributes) or ())
    changes = {"alpha": numbers(alpha), "gamma": gamma, "mode": mode}
    if not create and (class_names or config or any(value is not None for value in changes.values())):
        fail("--class-names, --config, --alpha, --gamma and --mode describe a new run: give --create")
    command = PushCommand(
        run=run,
        inputs=tuple(inputs),
        epoch=epoch,
        input_format=input_format,
        columns=ColumnNames(tuple(logits.split(",")) if logits else None, targets, id_column, kept),
        number_rows=number_rows,
        on_invalid=on_invalid,
        batch_rows=batch_rows,
        prefix=prefix,
        create={"config": config_from(config, **changes), "class_names": listed(class_names)} if create else None,
        url=url,
    )
    try:
        command.execute(errors)
    except ScoringError as err:
        fail(str(err), err.exit_status)
    except KeyboardInterrupt as err:
        errors.print("interrupted; the same command sends what is missing", style="red")
        raise typer.Exit(INTERRUPTED) from err


def diagnose(
    run: Run,
    epoch: Epoch = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    html: Annotated[Path | None, typer.Option(help="Write a report into one HTML file.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what a run tells of its data set: loss, label errors, classes, confusions, calibration, warnings."""
    from service.cli.report.html import render_report
    from service.cli.runs.diagnose import Findings, show

    options = {"epoch": epoch, **what_if(alpha, gamma)}
    found = asked(
        url, lambda client: Findings.of(client.run(run), options, with_examples=html is not None), ASKED_WITHIN_S
    )
    if html is not None:
        _write(html, render_report(found))
    if as_json:
        typer.echo(json_text(found.json))
    else:
        show(found, output)


def mine(
    run: Run,
    strategy: Annotated[str, typer.Option(help="logit_margin, top_loss, suspected_errors, random, mix, ...")] = (
        "logit_margin"
    ),
    budget: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 50,
    mix: Annotated[str | None, typer.Option(help="For mix: strategy=share, with commas.")] = None,
    per_class: Annotated[str | None, typer.Option(help="equal, proportional, or class=n with commas.")] = None,
    min_per_class: Annotated[int, typer.Option(min=0, help="At least so many of each class.")] = 0,
    at_most: Annotated[str | None, typer.Option(help="attribute=n: so many rows of one value at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random.")] = 0,
    name: Annotated[str | None, typer.Option(help="Of the queue; the same command then gives the same queue.")] = None,
    exclude_reviewed: Annotated[
        bool | None, typer.Option("--exclude-reviewed/--include-reviewed", help="Default: exclude; of random: include.")
    ] = None,
    epoch: Epoch = None,
    first: Annotated[int | None, typer.Option(min=1, help="Of area_under_margin: only the first epochs.")] = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    to: Output = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a queue of the examples to look at next, and keep it on the service."""
    from service.cli.runs.mine import pairs, show_queue, write_rows

    quotas = pairs(per_class, "--per-class", int) if per_class and "=" in per_class else per_class
    caps = pairs(at_most, "--at-most", int)
    if caps is not None and len(caps) != 1:
        fail("--at-most names one attribute")
    members: dict[str, Any] = {
        "name": name,
        "mix": pairs(mix, "--mix", float),
        "per_class": quotas,
        "min_per_class": min_per_class,
        "at_most": caps and dict(zip(("attribute", "count"), *caps.items(), strict=True)),
        "exclude_reviewed": exclude_reviewed,
        "seed": seed,
        "epoch": epoch,
        "first": first,
    }
    made, names = asked(
        url,
        lambda client: (
            client.run(run).create_queue(strategy, budget, **what_if(alpha, gamma), **members),
            client.run(run).describe()["class_names"],
        ),
        ASKED_WITHIN_S,
    )
    if to is not None:
        write_rows(Path(to), made, names)
        said(f"queue {made['name']} of run {run}: {made['num_rows']} rows written to {to}")
    elif as_json:
        typer.echo(json_text(made))
    else:
        show_queue(made, names, output)


def export(
    run: Run,
    to: Annotated[Path, typer.Option("--output", "-o", help="The file.")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format", help="label-studio, argilla, fiftyone, csv, jsonl or parquet; default: by the ending."
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(help="A queue; default: all examples, the largest loss first.")] = None,
    epoch: Epoch = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    from_name: Annotated[str | None, typer.Option(help="Label Studio: the control; Argilla: the question.")] = None,
    to_name: Annotated[str | None, typer.Option(help="Label Studio: the object; Argilla: the field.")] = None,
    data_key: Annotated[str | None, typer.Option(help="The attribute that is shown.")] = None,
    object_tag: Annotated[str | None, typer.Option(help="Label Studio: Text, Image, Audio, HyperText.")] = None,
    image_key: Annotated[str | None, typer.Option(help="FiftyOne: the attribute with the image's path.")] = None,
    image_root: Annotated[str | None, typer.Option(help="FiftyOne: what such a path begins with.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write a queue or a whole epoch for a labelling tool."""
    from service.cli.runs.export import format_of

    options: dict[str, Any] = {
        "queue": queue,
        "epoch": epoch,
        "from_name": from_name,
        "to_name": to_name,
        "data_key": data_key,
        "object_tag": object_tag,
        "image_key": image_key,
        "image_root": image_root,
        **what_if(alpha, gamma),
    }
    chosen = format_name or format_of(to)
    if not to.parent.is_dir():
        fail(f"{to.parent}: no such folder")
    try:
        asked(url, lambda client: client.run(run).export(to, format=chosen, **options), ASKED_WITHIN_S)
    except OSError as err:
        fail(f"{to}: {err}", 1)
    said(f"written to {to} ({chosen})")


def compare(
    run: Run,
    other: Annotated[str, typer.Argument(help="The run after.", show_default=False)],
    top: Annotated[int | None, typer.Option(min=1, help="How many are the hardest; default: 1 in 100.")] = None,
    epoch: Epoch = None,
    other_epoch: Annotated[int | None, typer.Option(min=0, help="Of the run after; default: the last.")] = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what changed from one run to another, example by example."""
    from service.cli.runs.compare import show_comparison

    options: dict[str, Any] = {"top": top, "epoch": epoch, "other_epoch": other_epoch, **what_if(alpha, gamma)}
    found, names = asked(
        url,
        lambda client: (client.run(run).compare(other, **options), client.run(run).describe()["class_names"]),
        ASKED_WITHIN_S,
    )
    if as_json:
        typer.echo(json_text(found))
    else:
        show_comparison(found, names, output)


def review(
    run: Run,
    file: Annotated[Path | None, typer.Argument(help=".csv or .jsonl with id, verdict, and perhaps label.")] = None,
    ok: Annotated[str | None, typer.Option(help="Ids whose label is right, with commas.")] = None,
    wrong: Annotated[str | None, typer.Option(help="Ids whose label is wrong; id=class says the right one.")] = None,
    unsure: Annotated[str | None, typer.Option(help="Ids that nobody can tell.")] = None,
    take_back: Annotated[str | None, typer.Option(help="Ids of which nothing is to be said any more.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue in which they were met.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what people found; the last word on an example counts."""
    from service.cli.runs.manage import show_reviews
    from service.cli.runs.review import add_in_parts, given, read_file

    common = {"reviewer": reviewer, "queue": queue}
    reviews = [*given(ok, "ok"), *given(wrong, "wrong"), *given(unsure, "unsure"), *given(take_back, None)]
    reviews += read_file(file) if file is not None else []
    if not reviews:
        fail("no reviews: give a file with verdicts, --ok, --wrong, --unsure or --take-back")
    merged = [common | one for one in reviews]
    said_so_far = asked(url, lambda client: add_in_parts(client.run(run), merged))
    output.print(f"{len(merged)} reviews are kept", highlight=False)
    show_reviews(said_so_far)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        fail(f"{path}: {err}", 1)
    said(f"written to {path}")


def register(app: typer.Typer) -> None:
    """Give the commands to `focal-loss`."""
    for command in (push, diagnose, mine, export, compare, review):
        app.command()(command)
