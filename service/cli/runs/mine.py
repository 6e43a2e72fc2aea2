"""The command `focal-loss mine`: a queue of the examples to review next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from service.cli.console import (
    QUERY_TIMEOUT_S,
    call_service,
    fail,
    info,
    output,
    show_json,
    write_file,
)
from service.cli.options import DEFAULT_URL, AsJson, Epoch, RunName, Url, WhatIfAlpha, WhatIfGamma, parse_alpha
from service.cli.runs.queue_output import EXTENSIONS, queue_bytes, show_queue

if TYPE_CHECKING:
    from service.client import LossClient
    from service.schema.replies.queues import QueuePage
    from service.schema.replies.runs import Run

N = TypeVar("N", int, float)


def mine(
    run: RunName,
    strategy: Annotated[
        str,
        typer.Option(help="recommended, logit_margin, top_loss, suspected_errors, random, mix, ..."),
    ] = "recommended",
    runs: Annotated[
        str | None,
        typer.Option(
            help="Further runs of the same examples, such as other models, separated by commas: rank by the mean of "
            "the ranks in all runs.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Maximum number of rows.")] = 50,
    mix: Annotated[str | None, typer.Option(help="For mix: strategy=share, separated by commas.")] = None,
    per_class: Annotated[
        str | None, typer.Option(help="Rows per class: equal, proportional, or class=n separated by commas.")
    ] = None,
    min_per_class: Annotated[int, typer.Option(min=0, help="Minimum number of rows per class.")] = 0,
    at_most: Annotated[
        str | None,
        typer.Option(
            help="attribute=n: maximum number of rows with the same value of an attribute; n alone: of each example."
        ),
    ] = None,
    units: Annotated[
        bool | None,
        typer.Option(
            "--units/--no-units",
            help="In runs of labels, tokens or masks: rows are wrong labels, spans or regions, or whole examples; "
            "default: by the strategy.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the strategy random.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="Name of the queue; repeating the command returns the same queue.")
    ] = None,
    exclude_reviewed: Annotated[
        bool | None,
        typer.Option(
            "--exclude-reviewed/--include-reviewed", help="Default: exclude, but include for the strategy random."
        ),
    ] = None,
    epoch: Epoch = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="For area_under_margin: use only this number of first epochs.")
    ] = None,
    reviewers: Annotated[
        bool,
        typer.Option(
            "--reviewers",
            help="For consensus_quality and both active_lab strategies: count reviewers as annotators too.",
        ),
    ] = False,
    overlap: Annotated[int, typer.Option(min=1, help="Reviewers of each row.")] = 1,
    blind: Annotated[
        bool, typer.Option("--blind", help="Hide the verdicts on a row from reviewers who have not judged it.")
    ] = False,
    without_suggestion: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rows that are shown without the model's suggestion.")
    ] = 0.0,
    gold: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Share of the rows that are adjudicated examples, to measure the reviewers."),
    ] = 0.0,
    alpha: WhatIfAlpha = None,
    gamma: WhatIfGamma = None,
    path: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".csv, .jsonl or .json file; default: print a table.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Create a queue of the examples to review next. The service stores it."""
    if path is not None and path.suffix.lower() not in EXTENSIONS:
        fail(f"{path}: unknown extension: expected one of {', '.join(EXTENSIONS)}")
    quotas = parse_pairs(per_class, "--per-class", int) if per_class and "=" in per_class else per_class
    members: dict[str, object] = {
        "name": name,
        "mix": parse_pairs(mix, "--mix", float),
        "runs": None if runs is None else [name.strip() for name in runs.split(",")],
        "per_class": quotas,
        "min_per_class": min_per_class,
        "at_most": parse_cap(at_most),
        "units": units,
        "exclude_reviewed": exclude_reviewed,
        "seed": seed,
        "epoch": epoch,
        "first": first,
        "reviewers": reviewers,
        "overlap": overlap,
        "blind": blind,
        "without_suggestion": without_suggestion,
        "gold": gold,
    }
    weights = parse_alpha(alpha)

    def create(client: LossClient) -> tuple[QueuePage, Run]:
        description = client.run(run).describe()
        queue = client.run(run).create_queue(strategy, budget, alpha=weights, gamma=gamma, **members)
        return queue, description

    queue, description = call_service(url, create, QUERY_TIMEOUT_S)
    if path is not None:
        info(f"Created queue {queue['name']} of run {run}.")
        write_file(path, queue_bytes(queue, description, path.suffix.lower()))
        info(f"Wrote {queue['num_rows']} rows to {path}.")
    elif as_json:
        show_json(queue)
    else:
        show_queue(queue, description, output)


def parse_cap(text: str | None) -> dict[str, str | int] | None:
    """Parse `--at-most`: the cap of a queue on an attribute or on examples; ends the command if it is neither."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return {"count": int(text)}
    caps = parse_pairs(text, "--at-most", int) or {}
    if len(caps) != 1:
        fail("--at-most names one attribute")
    ((attribute, count),) = caps.items()
    return {"attribute": attribute, "count": count}


def parse_pairs(text: str | None, option: str, kind: Callable[[str], N]) -> dict[str, N] | None:
    """Parse `name=number` pairs separated by commas; ends the command if the text is something else."""
    if text is None:
        return None
    pairs = {}
    for part in text.split(","):
        name, sign, value = part.rpartition("=")
        try:
            pairs[name.strip()] = kind(value)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            fail(f"{option} {text}: expected name=number, separated by commas")
    return pairs
