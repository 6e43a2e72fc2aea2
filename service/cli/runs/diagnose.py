"""The command `focal-loss diagnose`: findings about a run, printed or as an HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.console import (
    QUERY_TIMEOUT_S,
    add_row,
    call_service,
    class_name,
    info,
    number,
    output,
    percent,
    show_json,
    table,
    write_file,
)
from service.cli.options import DEFAULT_URL, AsJson, Epoch, RunName, Url, WhatIfAlpha, WhatIfGamma, parse_alpha
from service.cli.runs.element_tables import ElementTable, describe_elements, describe_issues, element_tables
from service.cli.runs.quality_lines import change_lines, remaining_lines

if TYPE_CHECKING:
    from service.client import RunClient
    from service.client.run_calls import QueryValue
    from service.schema.replies.diagnostics import Diagnostics
    from service.schema.replies.dynamics import DynamicsSummary
    from service.schema.replies.examples import ExampleRow
    from service.schema.replies.gain import Gain
    from service.schema.replies.remaining import Remaining
    from service.schema.replies.runs import Run

CLASSES_SHOWN, PAIRS_SHOWN, EXAMPLES = 20, 10, 50


def diagnose(
    run: RunName,
    epoch: Epoch = None,
    alpha: WhatIfAlpha = None,
    gamma: WhatIfGamma = None,
    html: Annotated[Path | None, typer.Option(help="Write a report to this HTML file.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Diagnose a run: loss, label errors, classes, confusions, calibration, warnings."""
    weights = parse_alpha(alpha)
    findings = call_service(
        url,
        lambda client: Findings.fetch(
            client.run(run), epoch=epoch, alpha=weights, gamma=gamma, with_examples=html is not None
        ),
        QUERY_TIMEOUT_S,
    )
    if html is not None:
        from service.cli.report.html import render_report

        write_file(html, render_report(findings).encode())
        info(f"Wrote {html}.")
    if as_json:
        further = {"dynamics": findings.dynamics, "remaining": findings.remaining, "gain": findings.gain}
        show_json({**findings.diagnostics, **further})
    else:
        show_findings(findings, output)


@dataclass(frozen=True)
class Findings:
    """Findings about a run.

    Args:
        run: The run.
        diagnostics: Diagnostics of one epoch.
        dynamics: Summary of the training dynamics over all epochs; None with fewer than two epochs.
        examples: Examples of that epoch with the smallest logit margins, of a structured run with the lowest label
            quality.
        remaining: Wrong labels that are left.
        gain: Effect of the corrected labels; None in a structured run, and without verdicts.
    """

    run: Run
    diagnostics: Diagnostics
    dynamics: DynamicsSummary | None
    examples: list[ExampleRow]
    remaining: Remaining
    gain: Gain | None

    @classmethod
    def fetch(
        cls, run: RunClient, *, epoch: int | None, alpha: QueryValue, gamma: float | None, with_examples: bool
    ) -> Findings:
        """Fetch the findings about an epoch, by default the last one, optionally under another alpha or gamma."""
        diagnostics = run.diagnostics(epoch=epoch, alpha=alpha, gamma=gamma)
        dynamics, examples = None, []
        if len(diagnostics["epochs"]) > 1:
            dynamics = run.dynamics(limit=0, alpha=alpha, gamma=gamma)["summary"]
        if with_examples:
            sort = "label_quality" if "elements" in diagnostics else "logit_margin"
            page = run.examples(sort=sort, limit=EXAMPLES, epoch=epoch, alpha=alpha, gamma=gamma)
            examples = page["rows"]
        remaining = run.remaining(epoch=epoch)
        gain = None
        if remaining["num_judged"] and "elements" not in diagnostics:
            gain = run.gain(epoch=epoch, other_epoch=epoch, alpha=alpha, gamma=gamma)
        return cls(run.describe(), diagnostics, dynamics, examples, remaining, gain)

    def name(self, label: int | None) -> str:
        """The name of a class; a dash for None."""
        return class_name(label, self.run["class_names"])

    @property
    def review_lines(self) -> list[tuple[str, str]]:
        """Names and sentences about the wrong labels that are left, and the effect of the corrected ones."""
        changes = [] if self.gain is None else change_lines(self.gain)
        return remaining_lines(self.remaining) + changes

    @property
    def element_tables(self) -> list[ElementTable]:
        """Tables about the elements of a structured run, else none."""
        elements = self.diagnostics.get("elements")
        return [] if elements is None else element_tables(elements, self.run["task"], self.name)

    @property
    def element_lines(self) -> list[tuple[str, str]]:
        """Names and sentences about the elements of a structured run, else none."""
        elements = self.diagnostics.get("elements")
        if elements is None:
            return []
        lines = [("elements", describe_elements(elements, self.run["task"]))]
        if elements["label_issues"] is not None:
            lines.append(("label errors", describe_issues(elements["label_issues"], self.run["task"])))
        return lines


def show_findings(findings: Findings, console: Console) -> None:
    """Print the findings."""
    diagnostics = findings.diagnostics
    console.print(
        f"[bold]Run {escape(diagnostics['run'])}[/bold], epoch {diagnostics['epoch']} of "
        f"{', '.join(map(str, diagnostics['epochs'])) or 'none'}",
        highlight=False,
    )
    console.print("\n".join(f"{name:17}{text}" for name, text in _summary(findings)), highlight=False, markup=False)
    if "elements" in diagnostics:
        _show_elements(findings, console)
    else:
        _show_classes(findings, console)
        _show_pairs(findings, console)
    if findings.dynamics is not None:
        console.print("Over the epochs: " + describe_dynamics(findings.dynamics), highlight=False, markup=False)
    for warning in diagnostics["warnings"]:
        console.print(f"[bold yellow]Warning:[/bold yellow] {escape(warning['message'])}", highlight=False)


def _summary(findings: Findings) -> list[tuple[str, str]]:
    """Lines of the summary: name and text."""
    diagnostics = findings.diagnostics
    loss, kind = diagnostics["loss"], "labels" if findings.run["task"] == "multi_label" else "classes"
    right = "of the examples are predicted as labelled, in all elements"
    focal, plain = diagnostics["concentration"], diagnostics["concentration_at_gamma_0"]
    alpha = "none" if diagnostics["alpha"] is None else ", ".join(map(number, diagnostics["alpha"][:8]))
    lines = [
        (
            "examples",
            f"{diagnostics['num_examples']} of {diagnostics['num_classes'] or 0} {kind}; "
            f"{diagnostics['num_ignored']} ignored, {diagnostics['num_excluded']} excluded, "
            f"{diagnostics['num_duplicates']} with a repeated id",
        ),
        (
            "loss",
            f"{number(loss['value'])} ({loss['reduction']}; gamma {number(diagnostics['gamma'])}, alpha {alpha}); "
            f"median {number(loss['median'])}, largest {number(loss['max'])}",
        ),
        (
            "accuracy",
            f"{percent(loss['accuracy'])} "
            f"{right if 'elements' in diagnostics else 'of the predictions equal the label'}",
        ),
        (
            "concentration",
            f"the hardest 1 % of the examples have {percent(focal['top_1_percent'])} of the loss, 10 % have "
            f"{percent(focal['top_10_percent'])}; Gini {number(focal['gini'], 3)}",
        ),
        (
            "  at gamma 0",
            f"{percent(plain['top_1_percent'])}, {percent(plain['top_10_percent'])}; Gini {number(plain['gini'], 3)}",
        ),
    ]
    return lines + findings.element_lines + _estimates(diagnostics) + findings.review_lines


def _estimates(diagnostics: Diagnostics) -> list[tuple[str, str]]:
    """Lines of the summary that need stored logits."""
    lines, errors, calibration = [], diagnostics.get("label_errors"), diagnostics.get("calibration")
    if errors is not None:
        estimated = f"about {errors['estimated']} wrong labels ({percent(errors['share'])})"
        lines.append(("label errors", f"{estimated}; {errors['off_diagonal']} individual labels flagged"))
    if calibration is not None and calibration["ece"] is not None:
        text = (
            f"confidence {percent(calibration['confidence'])}, accuracy {percent(calibration['accuracy'])}; expected "
            f"calibration error {percent(calibration['ece'])}, best temperature {number(calibration['temperature'], 3)}"
        )
        lines.append(("calibration", text))
    return lines


def _show_elements(findings: Findings, console: Console) -> None:
    for title, columns, rows in findings.element_tables:
        shown = table(*columns, title=title)
        for row in rows:
            add_row(shown, *row)
        console.print(shown)


def _show_classes(findings: Findings, console: Console) -> None:
    rows = sorted(findings.diagnostics["classes"], key=lambda row: (-(row["loss_sum"] or 0.0), row["class"]))
    columns = ("class", ">examples", ">mean loss", ">share of loss", ">recall", "most often predicted", ">label noise")
    shown = table(*columns, title="Classes, largest share of the loss first")
    for row in rows[:CLASSES_SHOWN]:
        confused, noise = row["most_confused"], row.get("label_noise")
        predicted = "" if confused is None else f"{findings.name(confused['class'])} ({confused['count']})"
        shares = percent(row["loss_share"]), percent(row["recall"])
        name = findings.name(row["class"])
        add_row(shown, name, row["count"], number(row["mean_loss"]), *shares, predicted, percent(noise))
    console.print(shown)
    if len(rows) > CLASSES_SHOWN:
        console.print(f"and {len(rows) - CLASSES_SHOWN} more classes", highlight=False)


def _show_pairs(findings: Findings, console: Console) -> None:
    cells = findings.diagnostics["confusion"]["largest"][:PAIRS_SHOWN]
    if cells:
        shown = table("label", "predicted", ">examples", title="Most confused")
        for cell in cells:
            add_row(shown, findings.name(cell["target"]), findings.name(cell["prediction"]), cell["count"])
        console.print(shown)
    pairs = (findings.diagnostics["class_pairs"] or [])[:PAIRS_SHOWN]
    if pairs:
        shown = table("classes", ">wrong labels", title="Classes mistaken for each other (estimated)")
        for pair in pairs:
            add_row(shown, f"{findings.name(pair['first'])} / {findings.name(pair['second'])}", pair["count"])
        console.print(shown)


def describe_dynamics(dynamics: DynamicsSummary) -> str:
    """Describe the training dynamics in a sentence."""
    regions = dynamics["regions"]
    return (
        f"{dynamics['never_learned']} of {dynamics['num_examples']} examples were never predicted as labelled, "
        f"{dynamics['forgotten']} were learned and forgotten; {regions['easy']} are easy, {regions['ambiguous']} "
        f"ambiguous, {regions['hard_to_learn']} hard to learn; mean area under the margin "
        f"{number(dynamics['mean_area_under_margin'])}."
    )
