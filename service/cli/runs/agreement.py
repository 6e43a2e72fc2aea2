"""The command `focal-loss agreement`: agreement of the reviewers of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
from service.cli.options import DEFAULT_URL, AsJson, RunName, Url

if TYPE_CHECKING:
    from service.schema.replies.agreement import Agreement, Conflict, ConflictingReview

PAIRS_SHOWN = 20
UPTAKES: tuple[Literal["suggestion_shown"], Literal["suggestion_hidden"]] = ("suggestion_shown", "suggestion_hidden")


def agreement(
    run: RunName,
    conflicts: Annotated[int, typer.Option(min=0, max=1000, help="Maximum number of conflicts to list.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Measure the agreement of the reviewers of a run, and list their conflicts."""
    found, described = call_service(
        url,
        lambda client: (client.run(run).agreement(limit=conflicts), client.run(run).describe()),
        QUERY_TIMEOUT_S,
    )
    if as_json:
        show_json(found)
    else:
        show_agreement(found, described["class_names"], output)


def show_agreement(found: Agreement, names: list[str] | None, console: Console) -> None:
    """Print the measures, the reviewers, the pairs and the conflicts."""
    alpha = found["krippendorff_alpha"]
    interval = f" [{number(alpha['low'], 3)}, {number(alpha['high'], 3)}]" if alpha["value"] is not None else ""
    lines = [
        f"reviewed  {found['num_items']} examples or units by {found['num_reviewers']} reviewers; "
        f"{found['num_compared']} judged by at least two, {found['num_conflicts']} in conflict",
        f"alpha     Krippendorff {number(alpha['value'], 3)}{interval}; "
        f"Fleiss kappa {number(found['fleiss_kappa'], 3)}",
    ]
    if any(found[name]["rows"] for name in UPTAKES):
        shown, hidden = (_of(found[name]["taken"], found[name]["rows"]) for name in UPTAKES)
        lines.append(f"taken     {shown} of the shown suggestions, {hidden} of the hidden ones")
    console.print("\n".join(lines), highlight=False, markup=False)
    _show_reviewers(found, console)
    _show_pairs(found, console)
    _show_conflicts(found["conflicts"], names, console)


def _name(reviewer: str | None) -> str:
    return "(no name)" if reviewer is None else reviewer


def _of(number: int, total: int) -> str:
    return f"{number} of {total} ({percent(number / total)})" if total else "-"


def _show_reviewers(found: Agreement, console: Console) -> None:
    with_gold = any(one["gold"] and one["gold"]["rows"] for one in found["reviewers"])
    with_suggestions = any(found[name]["rows"] for name in UPTAKES)
    further = [">gold right"] * with_gold + [">taken: shown", ">hidden"] * with_suggestions
    shown = table("reviewer", ">ok", ">wrong", ">unsure", ">exclude", *further, title="Reviewers")
    for one in found["reviewers"]:
        counts = one["num_ok"], one["num_wrong"], one["num_unsure"], one["num_exclude"]
        gold = [f"{one['gold']['hits']}/{one['gold']['rows']}" if one["gold"] else "-"] * with_gold
        taken = [f"{one[name]['taken']}/{one[name]['rows']}" for name in UPTAKES if with_suggestions]
        add_row(shown, _name(one["reviewer"]), *counts, *gold, *taken)
    if found["reviewers"]:
        console.print(shown)


def _show_pairs(found: Agreement, console: Console) -> None:
    shown = table("reviewer", "and", ">common", ">same label", ">Cohen's kappa", title="Pairs")
    for pair in found["pairs"][:PAIRS_SHOWN]:
        same, kappa = percent(pair["agreement"]), number(pair["cohen_kappa"], 3)
        add_row(shown, _name(pair["first"]), _name(pair["second"]), pair["num_common"], same, kappa)
    if found["pairs"]:
        console.print(shown)


def _show_conflicts(conflicts: list[Conflict], names: list[str] | None, console: Console) -> None:
    with_units = any(one.get("unit") is not None for one in conflicts)
    shown = table("id", *(["unit"] if with_units else []), "verdicts", title="Conflicts")
    for one in conflicts:
        unit = one.get("unit")
        cells = ["-" if unit is None else str(unit)] if with_units else []
        add_row(shown, one["id"], *cells, "; ".join(_verdict(review, names) for review in one["reviews"]))
    if conflicts:
        console.print(shown)


def _verdict(review: ConflictingReview, names: list[str] | None) -> str:
    label = "" if review["label"] is None else f" ({class_name(review['label'], names)})"
    return f"{_name(review['reviewer'])}: {review['verdict']}{label}"
