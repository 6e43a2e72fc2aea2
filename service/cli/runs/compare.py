"""`focal-loss compare`: what changed between two runs, on a terminal."""

from __future__ import annotations

from rich.console import Console

from service.cli.console import add_row, class_name, number, percent, table
from service.schema.replies.comparison import ComparedExample, Comparison

MOVED_SHOWN = 10


def show_comparison(found: Comparison, names: list[str] | None, console: Console) -> None:
    """Print totals, classes, and the examples that moved most."""
    runs = (
        ("before", found["before"], found["mean_loss_before"]),
        ("after", found["after"], found["mean_loss_after"]),
    )
    for label, run, mean_loss in runs:
        console.print(
            f"{label:8}{run['run']}, epoch {run['epoch']}: {run['num_examples']} examples, "
            f"mean loss {number(mean_loss)}",
            highlight=False,
            markup=False,
        )
    console.print(
        f"common  {found['num_common']} examples; {found['num_only_before']} only before, {found['num_only_after']} "
        f"only after; {found['num_relabelled']} with another label, {found['num_predicted_otherwise']} predicted "
        f"otherwise\nhardest {found['top']}: {percent(found['overlap'])} the same, {found['num_newly_hard']} newly "
        f"hard, {found['num_resolved']} resolved; rank correlation of all {number(found['rank_correlation'], 3)}",
        highlight=False,
    )
    classes = table("class", ">examples", ">mean loss before", ">after", ">newly hard", ">resolved", title="Classes")
    for row in found["classes"]:
        losses = number(row["mean_loss_before"]), number(row["mean_loss_after"])
        counts = row["num_newly_hard"], row["num_resolved"]
        add_row(classes, class_name(row["class"], names), row["count"], *losses, *counts)
    console.print(classes)
    for title, rows in (
        ("Newly hard", found["newly_hard"]),
        ("Resolved", found["resolved"]),
        ("Largest moves", found["moves"]),
    ):
        if rows:
            _show_moved(rows[:MOVED_SHOWN], title, names, console)


def _show_moved(rows: list[ComparedExample], title: str, names: list[str] | None, console: Console) -> None:
    shown = table("id", "label", "predicted", ">loss", ">rank", title=title)
    for row in rows:
        label = class_name(row["target_after"], names)
        if row["target_before"] != row["target_after"]:
            label = f"{class_name(row['target_before'], names)} -> {label}"
        predicted = class_name(row["prediction_before"], names), class_name(row["prediction_after"], names)
        losses = number(row["loss_before"], 3), number(row["loss_after"], 3)
        ranks = str(row["rank_before"]), str(row["rank_after"])
        add_row(shown, row["id"], label, *map(" -> ".join, (predicted, losses, ranks)))
    console.print(shown)
