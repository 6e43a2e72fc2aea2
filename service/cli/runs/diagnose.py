"""`focal-loss diagnose`: what a run tells of its data set, on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from service.cli.console import add_row, class_name, number, percent, table

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies.diagnostics import Diagnostics
    from service.schema.replies.dynamics import DynamicsSummary
    from service.schema.replies.examples import ExampleRow
    from service.schema.replies.runs import Run

CLASSES_SHOWN, PAIRS_SHOWN, EXAMPLES = 20, 10, 50


@dataclass(frozen=True)
class Findings:
    """What was asked of a run.

    Args:
        run: Its description.
        diagnostics: Of one epoch.
        dynamics: The summary over its epochs, None where it has fewer than two.
        examples: Of that epoch, the ones whose label the model contradicts most, by logit margin.
    """

    run: Run
    diagnostics: Diagnostics
    dynamics: DynamicsSummary | None
    examples: list[ExampleRow]

    @classmethod
    def of(cls, run: RunClient, options: dict[str, Any], *, with_examples: bool) -> Findings:
        """Ask for all of it; `options` are the epoch and the what-if."""
        found = run.diagnostics(**options)
        dynamics = None
        if len(found["epochs"]) > 1:
            dynamics = run.dynamics(limit=0, alpha=options["alpha"], gamma=options["gamma"])["summary"]
        rows = run.examples(sort="logit_margin", limit=EXAMPLES, **options)["rows"] if with_examples else []
        return cls(run.describe(), found, dynamics, rows)

    @property
    def names(self) -> list[str] | None:
        names: list[str] | None = self.run["class_names"]
        return names

    @property
    def json(self) -> dict[str, Any]:
        return {**self.diagnostics, "dynamics": self.dynamics}

    def name(self, label: int | None) -> str:
        """A class as people call it."""
        return class_name(label, self.names)


def show(found: Findings, console: Console) -> None:
    """Print all of it."""
    one = found.diagnostics
    console.print(
        f"[bold]Run {one['run']}[/bold], epoch {one['epoch']} of {', '.join(map(str, one['epochs'])) or 'none'}",
        highlight=False,
    )
    console.print("\n".join(f"{name:17}{text}" for name, text in summary(found)), highlight=False, markup=False)
    _show_classes(found, console)
    _show_pairs(found, console)
    if found.dynamics is not None:
        console.print("Over the epochs: " + learned(found.dynamics), highlight=False, markup=False)
    for warning in one["warnings"]:
        console.print(f"[bold yellow]Careful:[/bold yellow] {warning['message']}", highlight=False)


def summary(found: Findings) -> list[tuple[str, str]]:
    """The numbers in short: a name and a text each."""
    one = found.diagnostics
    loss, here, plain = one["loss"], one["concentration"], one["concentration_at_gamma_0"]
    alpha = "none" if one["alpha"] is None else ", ".join(map(number, one["alpha"][:8]))
    lines = [
        (
            "examples",
            f"{one['num_examples']} of {one['num_classes'] or 0} classes; {one['num_ignored']} ignored, "
            f"{one['num_excluded']} excluded, {one['num_duplicates']} with an id that came before",
        ),
        (
            "loss",
            f"{number(loss['value'])} ({loss['reduction']}; gamma {number(one['gamma'])}, alpha {alpha}); median "
            f"{number(loss['median'])}, largest {number(loss['max'])}",
        ),
        ("accuracy", f"{percent(loss['accuracy'])} of the labels are what the model predicts"),
        (
            "concentration",
            f"the hardest 1 % of the examples have {percent(here['top_1_percent'])} of the loss, 10 % have "
            f"{percent(here['top_10_percent'])}; Gini {number(here['gini'], 3)}",
        ),
        (
            "  at gamma 0",
            f"{percent(plain['top_1_percent'])}, {percent(plain['top_10_percent'])}; Gini {number(plain['gini'], 3)}",
        ),
    ]
    return lines + _estimates(one)


def _estimates(one: Diagnostics) -> list[tuple[str, str]]:
    """What only a run with logits has."""
    lines, errors, calibration = [], one["label_errors"], one["calibration"]
    if errors is not None:
        estimated = f"about {errors['estimated']} wrong labels ({percent(errors['share'])})"
        lines.append(("label errors", f"{estimated}; {errors['off_diagonal']} stand out one by one"))
    if calibration is not None and calibration["ece"] is not None:
        text = (
            f"confidence {percent(calibration['confidence'])}, right {percent(calibration['accuracy'])}; expected "
            f"calibration error {percent(calibration['ece'])}, best temperature {number(calibration['temperature'], 3)}"
        )
        lines.append(("calibration", text))
    return lines


def _show_classes(found: Findings, console: Console) -> None:
    rows = sorted(found.diagnostics["classes"], key=lambda row: (-(row["loss_sum"] or 0.0), row["class"]))
    columns = ("class", ">examples", ">mean loss", ">share of loss", ">recall", "most often predicted", ">label noise")
    shown = table(*columns, title="Classes, the largest share of the loss first")
    for row in rows[:CLASSES_SHOWN]:
        worst, noise = row["most_confused"], row.get("label_noise")
        predicted = "" if worst is None else f"{found.name(worst['class'])} ({worst['count']})"
        share = percent(row["loss_share"]), percent(row["recall"])
        add_row(
            shown, found.name(row["class"]), row["count"], number(row["mean_loss"]), *share, predicted, percent(noise)
        )
    console.print(shown)
    if len(rows) > CLASSES_SHOWN:
        console.print(f"and {len(rows) - CLASSES_SHOWN} more classes", highlight=False)


def _show_pairs(found: Findings, console: Console) -> None:
    confused = found.diagnostics["confusion"]["largest"][:PAIRS_SHOWN]
    if confused:
        shown = table("label", "predicted", ">examples", title="Most confused")
        for cell in confused:
            add_row(shown, found.name(cell["target"]), found.name(cell["prediction"]), cell["count"])
        console.print(shown)
    overlapping = (found.diagnostics["class_pairs"] or [])[:PAIRS_SHOWN]
    if overlapping:
        shown = table("classes", ">wrong labels", title="Labels taken for each other, estimated")
        for pair in overlapping:
            add_row(shown, f"{found.name(pair['first'])} / {found.name(pair['second'])}", pair["count"])
        console.print(shown)


def learned(dynamics: DynamicsSummary) -> str:
    """The course of the examples over the epochs, in a sentence."""
    regions = dynamics["regions"]
    return (
        f"{dynamics['never_learned']} of {dynamics['num_examples']} examples were never predicted as labelled, "
        f"{dynamics['forgotten']} were learned and forgotten; {regions['easy']} are easy, {regions['ambiguous']} "
        f"ambiguous, {regions['hard_to_learn']} hard to learn; mean area under the margin "
        f"{number(dynamics['mean_area_under_margin'])}."
    )
