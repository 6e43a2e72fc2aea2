"""`focal-loss compare`: what changed between two runs, on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from service.cli.console import add_row, class_name, number, percent, table

MOVED_SHOWN = 10


def show_comparison(found: dict[str, Any], names: list[str] | None, console: Console) -> None:
    """Print totals, classes, and the examples that moved most."""
    before, after = found["before"], found["after"]
    for one, label in ((before, "before"), (after, "after")):
        console.print(
            f"{label:8}{one['run']}, epoch {one['epoch']}: {one['num_examples']} examples, mean loss "
            f"{number(found[f'mean_loss_{label}'])}",
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
    for one in found["classes"]:
        losses = number(one["mean_loss_before"]), number(one["mean_loss_after"])
        counts = one["num_newly_hard"], one["num_resolved"]
        add_row(classes, class_name(one["class"], names), one["count"], *losses, *counts)
    console.print(classes)
    for name, title in (("newly_hard", "Newly hard"), ("resolved", "Resolved"), ("moves", "Largest moves")):
        if found[name]:
            _show_moved(found[name][:MOVED_SHOWN], title, names, console)


def _show_moved(rows: list[dict[str, Any]], title: str, names: list[str] | None, console: Console) -> None:
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
