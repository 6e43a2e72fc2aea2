"""The command `focal-loss compare`: changes between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from service.cli.console import (
    QUERY_TIMEOUT_S,
    add_row,
    call_service,
    class_name,
    number,
    output,
    percent,
    show_json,
    table,
)
from service.cli.options import DEFAULT_URL, AsJson, Epoch, RunName, Url, WhatIfAlpha, WhatIfGamma, parse_alpha
from service.cli.runs.manage import describe_task
from service.cli.runs.quality_lines import gain_lines
from service.schema.replies.comparison import ComparedExample, ComparedRun, Comparison
from service.schema.replies.gain import Gain
from service.schema.replies.runs import Run

if TYPE_CHECKING:
    from service.client import LossClient

MOVED_SHOWN = 10


def compare(
    run: RunName,
    other: Annotated[str, typer.Argument(help="Name of the later run.", show_default=False)],
    top: Annotated[int | None, typer.Option(min=1, help="Number of hardest examples; default: 1 %.")] = None,
    epoch: Epoch = None,
    other_epoch: Annotated[
        int | None, typer.Option(min=0, help="Epoch of the later run; default: the last one.")
    ] = None,
    alpha: WhatIfAlpha = None,
    gamma: WhatIfGamma = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Compare a run with a later one, example by example."""
    query: dict[str, Any] = {"epoch": epoch, "other_epoch": other_epoch, "alpha": parse_alpha(alpha), "gamma": gamma}

    def request(client: LossClient) -> tuple[Run, Comparison, Gain | None]:
        asked = client.run(run)
        before, comparison = asked.describe(), asked.compare(other, top=top, **query)
        # The gain needs one class for each example.
        return before, comparison, asked.gain(other, **query) if before["task"] == "classification" else None

    before, comparison, gain = call_service(url, request, QUERY_TIMEOUT_S)
    if as_json:
        show_json({**comparison, "gain": gain})
    else:
        show_comparison(comparison, before, gain, output)


def show_comparison(comparison: Comparison, before: Run, gain: Gain | None, console: Console) -> None:
    """Print totals, the gain, classes, and the examples with the largest changes."""
    names = before["class_names"]
    if before["task"] != "classification":
        console.print(f"task    {describe_task(before)}", highlight=False, markup=False)
    _show_totals(comparison, console)
    if gain is not None:
        lines = [f"{name:9} {text}" for name, text in gain_lines(gain)]
        console.print("\n".join(lines), highlight=False, markup=False)
    _show_classes(comparison, names, console)
    _show_examples(comparison["newly_hard"], "Newly hard", names, console)
    _show_examples(comparison["resolved"], "Resolved", names, console)
    _show_examples(comparison["moves"], "Largest changes of rank", names, console)


def _show_classes(comparison: Comparison, names: list[str] | None, console: Console) -> None:
    if not comparison["classes"]:
        return
    classes = table("class", ">examples", ">mean loss before", ">after", ">newly hard", ">resolved", title="Classes")
    for row in comparison["classes"]:
        losses = number(row["mean_loss_before"]), number(row["mean_loss_after"])
        counts = row["num_newly_hard"], row["num_resolved"]
        add_row(classes, class_name(row["class"], names), row["count"], *losses, *counts)
    console.print(classes)


def _show_totals(comparison: Comparison, console: Console) -> None:
    lines = [
        _run_line("before", comparison["before"], comparison["mean_loss_before"]),
        _run_line("after", comparison["after"], comparison["mean_loss_after"]),
        f"common  {comparison['num_common']} examples; {comparison['num_only_before']} only before, "
        f"{comparison['num_only_after']} only after; {comparison['num_relabelled']} with another label, "
        f"{comparison['num_predicted_otherwise']} with another prediction",
        f"hardest {comparison['top']}: {percent(comparison['overlap'])} in both runs, "
        f"{comparison['num_newly_hard']} newly hard, {comparison['num_resolved']} resolved; rank correlation of all "
        f"examples {number(comparison['rank_correlation'], 3)}",
    ]
    if "num_wrong_before" in comparison:
        lines.append(f"wrong   {comparison['num_wrong_before']} elements before, {comparison['num_wrong_after']} after")
    console.print("\n".join(lines), highlight=False, markup=False)


def _run_line(label: str, run: ComparedRun, mean_loss: float | None) -> str:
    return f"{label:8}{run['run']}, epoch {run['epoch']}: {run['num_examples']} examples, mean loss {number(mean_loss)}"


def _show_examples(rows: list[ComparedExample], title: str, names: list[str] | None, console: Console) -> None:
    if not rows:
        return
    of_elements = any("num_wrong_before" in row for row in rows)
    columns = (">wrong elements",) if of_elements else ("label", "predicted")
    shown = table("id", *columns, ">loss", ">rank", title=title)
    for row in rows[:MOVED_SHOWN]:
        cells = _wrong_elements(row) if of_elements else _classes_of(row, names)
        losses = number(row["loss_before"], 3), number(row["loss_after"], 3)
        ranks = str(row["rank_before"]), str(row["rank_after"])
        add_row(shown, row["id"], *cells, *map(" -> ".join, (losses, ranks)))
    console.print(shown)


def _wrong_elements(row: ComparedExample) -> list[str]:
    numbers = row["num_wrong_before"], row["num_wrong_after"]
    return [" -> ".join("-" if wrong is None else str(wrong) for wrong in numbers)]


def _classes_of(row: ComparedExample, names: list[str] | None) -> list[str]:
    """The label, with the one before if it has changed, and both predictions."""
    label = class_name(row["target_after"], names)
    if row["target_before"] != row["target_after"]:
        label = f"{class_name(row['target_before'], names)} -> {label}"
    predicted = class_name(row["prediction_before"], names), class_name(row["prediction_after"], names)
    return [label, " -> ".join(predicted)]
