"""Tables and sentences about the elements of a structured run, for the terminal and the HTML report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from service.cli.console import number, percent
from service.schema.structure import LABEL_CLASSES, Task

if TYPE_CHECKING:
    from service.schema.replies.element_diagnostics import (
        CommonIssue,
        ElementClass,
        ElementConfusion,
        ElementDiagnostics,
        ElementIssues,
        EntityIssues,
    )

CLASSES_SHOWN, CONFUSIONS_SHOWN, ISSUES_SHOWN = 50, 15, 15
ELEMENTS: dict[Task, str] = {"multi_label": "labels", "tokens": "tokens", "masks": "pixels"}
UNITS: dict[Task, str] = {"multi_label": "labels", "tokens": "spans", "masks": "regions"}

ClassNamer: TypeAlias = Callable[[int | None], str]


class ElementTable(NamedTuple):
    """A table of texts.

    Args:
        title: Title.
        columns: Names of the columns; those that begin with `>` are right-aligned.
        rows: Cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def element_tables(elements: ElementDiagnostics, task: Task, name: ClassNamer) -> list[ElementTable]:
    """The tables that have rows: classes or labels, confusions, label issues, words.

    Args:
        elements: The member `elements` of the diagnostics.
        task: Task of the run.
        name: Names a class, of the task `multi_label` a label.
    """
    issues = elements["label_issues"]
    tables = [_classes(elements["classes"], task, name), _confusions(elements["confusions"], task, name)]
    if issues is not None:
        tables += [_issues(issues["common"], task, name), _words(issues, name)]
    if "entities" in elements:
        tables.append(_entities(elements["entities"]))
    return [table for table in tables if table.rows]


def describe_elements(elements: ElementDiagnostics, task: Task) -> str:
    """Describe the number of elements that are wrong."""
    counts = (
        f"{elements['num_valid']} {ELEMENTS[task]} ({elements['num_ignored']} more are ignored); "
        f"{elements['num_wrong']} ({percent(elements['error_rate'])}) differ from their predictions"
    )
    units = "" if task == "multi_label" else f"{elements['num_units']} {UNITS[task]} of "
    return f"{counts}, in {units}{elements['num_examples_wrong']} examples"


def describe_issues(issues: ElementIssues, task: Task) -> str:
    """Describe the estimated number of wrong labels."""
    wrong = "wrong labels" if task == "multi_label" else f"{ELEMENTS[task]} with a wrong label"
    return (
        f"about {issues['estimated']} {wrong} ({percent(issues['share'])}); {issues['num_issues']} individual ones "
        f"flagged, in {issues['num_examples']} examples"
    )


def _classes(rows: list[ElementClass], task: Task, name: ClassNamer) -> ElementTable:
    of_labels, has_issues = task == "multi_label", any("label_noise" in row for row in rows)
    title = f"{'Labels' if of_labels else 'Classes'}, largest share of the loss first"
    more = len(rows) - CLASSES_SHOWN
    columns = [
        "label" if of_labels else "class",
        f">{'examples' if of_labels else ELEMENTS[task]}",
        *([">present"] if of_labels else []),
        ">differ",
        *([] if of_labels else [f">{UNITS[task]}"]),
        ">mean loss",
        ">loss share",
        *([">issues", ">noise"] if has_issues else []),
    ]
    cells = [
        (
            name(row["class"]),
            str(row["count"]),
            *([str(row["num_positive"])] if of_labels else []),
            f"{row['num_wrong']} ({percent(row['error_rate'])})",
            *([] if of_labels else [str(row["num_units"])]),
            number(row["mean_loss"]),
            percent(row["loss_share"]),
            *([_number_of_issues(row, task), percent(row["label_noise"])] if has_issues else []),
        )
        for row in sorted(rows, key=lambda row: (-(row["loss_sum"] or 0.0), row["class"]))[:CLASSES_SHOWN]
    ]
    return ElementTable(f"{title}, {more} more" if more > 0 else title, tuple(columns), cells)


def _number_of_issues(row: ElementClass, task: Task) -> str:
    """The issues of a class; of a label those with either target."""
    other = row["inverse_label_issues"] if task == "multi_label" else 0
    return str(row["label_issues"] + other)


def _confusions(rows: list[ElementConfusion], task: Task, name: ClassNamer) -> ElementTable:
    of_labels = task == "multi_label"
    units = () if of_labels else (f">{UNITS[task]}",)
    columns = (*(("label",) if of_labels else ()), "given", "predicted", f">{ELEMENTS[task]}", *units, ">loss")
    cells = [
        (
            *((name(row["label"]),) if of_labels else ()),
            _value(row["target"], task, name),
            _value(row["prediction"], task, name),
            str(row["count"]),
            *(() if of_labels else (str(row["num_units"]),)),
            number(row["loss_sum"]),
        )
        for row in rows[:CONFUSIONS_SHOWN]
    ]
    return ElementTable("Most frequent confusions", columns, cells)


def _issues(rows: list[CommonIssue], task: Task, name: ClassNamer) -> ElementTable:
    of_labels = task == "multi_label"
    columns = (*(("label",) if of_labels else ()), "given", "probably", f">{ELEMENTS[task]}")
    cells = [
        (
            *((name(row["label"]),) if of_labels else ()),
            _value(row["target"], task, name),
            _value(row["suggested"], task, name),
            str(row["count"]),
        )
        for row in rows[:ISSUES_SHOWN]
    ]
    return ElementTable("Most frequent label issues", columns, cells)


def _words(issues: ElementIssues, name: ClassNamer) -> ElementTable:
    cells = [
        (row["word"], name(row["target"]), name(row["suggested"]), str(row["count"]))
        for row in issues.get("words", [])[:ISSUES_SHOWN]
    ]
    return ElementTable("Words with the most label issues", ("word", "given", "probably", ">tokens"), cells)


def _entities(issues: EntityIssues) -> ElementTable:
    def name(label: int | None) -> str:
        return "-" if label is None else issues["names"][label]

    return _issues(issues["common"], "tokens", name)._replace(title="Most frequent label issues of entities")


def _value(target: int, task: Task, name: ClassNamer) -> str:
    """A class in words; of the task `multi_label` absent or present."""
    return LABEL_CLASSES[target] if task == "multi_label" else name(target)
