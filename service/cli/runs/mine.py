"""The command `focal-loss mine`: a queue of the examples to review next."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import orjson
import typer
from rich.console import Console

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
    write_file,
)
from service.cli.options import DEFAULT_URL, AsJson, Epoch, RunName, Url, WhatIfAlpha, WhatIfGamma, parse_alpha
from service.schema.replies.queues import QueuePage, QueueRow

N = TypeVar("N", int, float)
COLUMNS = ("rank", "id", "target", "given", "suggested", "suggested_name", "strategy", "score", "loss", "p_t", "reason")
# The reviewer fills these in.
REVIEW_COLUMNS = ("verdict", "label", "comment")
EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json")


def mine(
    run: RunName,
    strategy: Annotated[str, typer.Option(help="logit_margin, top_loss, suspected_errors, random, mix, ...")] = (
        "logit_margin"
    ),
    budget: Annotated[int, typer.Option(min=1, help="Maximum number of rows.")] = 50,
    mix: Annotated[str | None, typer.Option(help="For mix: strategy=share, separated by commas.")] = None,
    per_class: Annotated[
        str | None, typer.Option(help="Rows per class: equal, proportional, or class=n separated by commas.")
    ] = None,
    min_per_class: Annotated[int, typer.Option(min=0, help="Minimum number of rows per class.")] = 0,
    at_most: Annotated[
        str | None, typer.Option(help="attribute=n: maximum number of rows with the same value of an attribute.")
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
    caps = parse_pairs(at_most, "--at-most", int)
    if caps is not None and len(caps) != 1:
        fail("--at-most names one attribute")
    members = {
        "name": name,
        "mix": parse_pairs(mix, "--mix", float),
        "per_class": quotas,
        "min_per_class": min_per_class,
        "at_most": caps and dict(zip(("attribute", "count"), *caps.items(), strict=True)),
        "exclude_reviewed": exclude_reviewed,
        "seed": seed,
        "epoch": epoch,
        "first": first,
    }
    weights = parse_alpha(alpha)
    queue, names = call_service(
        url,
        lambda client: (
            client.run(run).create_queue(strategy, budget, alpha=weights, gamma=gamma, **members),
            client.run(run).describe()["class_names"],
        ),
        QUERY_TIMEOUT_S,
    )
    if path is not None:
        info(f"Created queue {queue['name']} of run {run}.")
        write_file(path, queue_bytes(queue, names, path.suffix.lower()))
        info(f"Wrote {queue['num_rows']} rows to {path}.")
    elif as_json:
        show_json(queue)
    else:
        show_queue(queue, names, output)


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


def show_queue(queue: QueuePage, names: list[str] | None, console: Console) -> None:
    """Print the rows of a queue by rank, and its expected yield."""
    shown = table(">rank", "id", "label -> suggested", ">p_t", ">loss", "reason", title=f"Queue {queue['name']}")
    for row in queue["rows"]:
        suggested = "" if row["suggested"] is None else f" -> {class_name(row['suggested'], names)}"
        labels = f"{class_name(row['target'], names)}{suggested}"
        add_row(shown, row["rank"], row["id"], labels, percent(row["p_t"]), number(row["loss"], 3), row["reason"])
    console.print(shown)
    expected = queue["expected_yield"]
    lines = [
        f"{queue['num_rows']} of {queue['num_examples']} examples of epoch {queue['epoch']}; about "
        f"{expected['wrong_labels']:.0f} wrong labels among them. {expected['caveat']}",
        *(f"Note: {warning}." for warning in queue["warnings"]),
    ]
    console.print("\n".join(lines), highlight=False, markup=False)


def queue_bytes(queue: QueuePage, names: list[str] | None, extension: str) -> bytes:
    """Format a queue for a file with one of the EXTENSIONS: `.json` has the whole queue, the others its rows."""
    if extension == ".json":
        return orjson.dumps(queue, option=orjson.OPT_INDENT_2)
    if extension == ".csv":
        return _csv_text(queue["rows"], names).encode()
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in queue["rows"])


def _csv_text(rows: Sequence[QueueRow], names: list[str] | None) -> str:
    """The rows as CSV: an attribute with the name of another column is called `attribute_<name>`."""
    from service.exports.review_rows import COLUMNS as READ_BY_REVIEW
    from service.exports.rows import rename_reserved
    from service.formats.spreadsheets import guard_cell

    reserved = (*COLUMNS, *REVIEW_COLUMNS, *READ_BY_REVIEW)
    given = [rename_reserved(row["attributes"], reserved) for row in rows]
    columns = [*COLUMNS, *REVIEW_COLUMNS, *sorted({name for attributes in given for name in attributes})]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(guard_cell, columns))
    for row, attributes in zip(rows, given, strict=True):
        classes = {"given": row["target"], "suggested_name": row["suggested"], "label": row["verdict_label"]}
        named = {name: None if label is None else class_name(label, names) for name, label in classes.items()}
        cells: Mapping[str, object] = {**row, **named, **attributes}
        writer.writerow(guard_cell(cells.get(name)) for name in columns)
    return text.getvalue()
