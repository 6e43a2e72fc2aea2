"""The commands `focal-loss annotations` and `focal-loss consensus`: labels of several annotators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import (
    QUERY_TIMEOUT_S,
    add_row,
    call_service,
    class_name,
    fail,
    info,
    number,
    output,
    percent,
    show_json,
    table,
)
from service.cli.errors import BAD_DATA
from service.cli.options import DEFAULT_URL, AsJson, Epoch, RunName, Url
from service.errors import DecodeError, InvalidRequestError, UnknownExampleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.client import LossClient
    from service.schema.replies.consensus import AddedAnnotations, Consensus

ANNOTATORS_SHOWN = 50


def annotate(
    run: RunName,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, TSV, Parquet or Arrow file with the columns id, annotator and label.", show_default=False
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the annotations of the run first.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Store labels that several annotators gave to the examples of a run.

    The same file again changes nothing. Another label of the same annotator for an example replaces the first one.

    Exit status: 0 success, 1 the service failed, 2 usage error, 3 invalid data in the file.
    """
    if file is None and not delete:
        fail("no annotations: name a file, or use --delete")
    if delete:
        call_service(url, lambda client: client.run(run).delete_annotations())
        info(f"Deleted the annotations of run {run}.")
    if file is not None:
        added = call_service(url, lambda client: _send(client, run, file), QUERY_TIMEOUT_S)
        info(
            f"{added['added']} annotations added, {added['changed']} changed, {added['unchanged']} unchanged; "
            f"run {run} has {added['num_annotations']}."
        )


def _send(client: LossClient, run: str, file: Path) -> AddedAnnotations:
    """Send a file; ends the command at an error in the file, which names file, row and column."""
    from service.client.quality_calls import annotate_call

    try:
        call = annotate_call(run, file)
    except OSError as err:
        fail(f"{file}: {err.strerror}")
    try:
        return client.send(call)
    except DecodeError as err:
        fail(f"{file}: {err}", BAD_DATA)
    except (InvalidRequestError, UnknownExampleError) as err:
        # Other errors are not about the content of the file.
        if not err.errors:
            raise
        fail(f"{file}, {err}", BAD_DATA)


def consensus(
    run: RunName,
    reviewers: Annotated[
        bool, typer.Option("--reviewers", help="Count the reviewers of the run as annotators too.")
    ] = False,
    differing: Annotated[
        bool, typer.Option("--differing", help="Only examples whose consensus is not their given label.")
    ] = False,
    sort: Annotated[
        str, typer.Option(help="Order of the examples: quality, active_lab or another member; a minus for descending.")
    ] = "quality",
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Number of examples to print.")] = 20,
    epoch: Epoch = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Estimate the right classes from several annotators and the model, and the quality of each annotator."""

    def fetch(client: LossClient) -> tuple[Consensus, Sequence[str] | None]:
        found = client.run(run).consensus(
            reviewers=reviewers, differing=differing or None, sort=sort, limit=limit, epoch=epoch
        )
        return found, client.run(run).describe()["class_names"]

    found, names = call_service(url, fetch, QUERY_TIMEOUT_S)
    if as_json:
        show_json(found)
    else:
        _show(found, names)


def _show(found: Consensus, names: Sequence[str] | None) -> None:
    weight = "" if found["model_weight"] is None else f"; weight of the model {number(found['model_weight'])}"
    output.print(
        f"{found['num_annotations']} annotations of {found['num_annotated']} of {found['num_examples']} examples, "
        f"{found['num_shared']} by several annotators; {found['num_differing']} with another consensus than their "
        f"label{weight}",
        highlight=False,
        markup=False,
    )
    people = table("annotator", ">labels", ">weight", ">quality", ">agreement", "worst class", title="Lowest quality")
    for one in found["annotators"][:ANNOTATORS_SHOWN]:
        name, shares = one["annotator"] or "(no name)", (percent(one["quality"]), percent(one["agreement"]))
        worst = class_name(one["worst_class"], names)
        add_row(people, name, one["num_annotations"], number(one["weight"]), *shares, worst)
    output.print(people)
    if (further := len(found["annotators"]) - ANNOTATORS_SHOWN) > 0:
        output.print(f"and {further} more annotators", highlight=False)
    examples = table("id", "label", "consensus", ">quality", ">annotators", ">agreement", ">ActiveLab")
    for row in found["rows"]:
        given, likeliest = class_name(row["target"], names), class_name(row["consensus"], names)
        numbers = percent(row["quality"]), row["num_annotations"], percent(row["agreement"])
        add_row(examples, row["id"], given, likeliest, *numbers, number(row["active_lab"]))
    if found["rows"]:
        output.print(examples)
