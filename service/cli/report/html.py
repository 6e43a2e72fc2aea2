"""HTML report on a run: one file without scripts that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from service import __version__
from service.cli.console import number, percent
from service.cli.report import charts
from service.cli.runs.diagnose import Findings, describe_dynamics

MATRIX_CLASSES = 30
CLASSES_SHOWN = 100
PAIRS_SHOWN = 15
TEXT_CHARACTERS = 300


def render_report(findings: Findings) -> str:
    """Render the findings about a run as an HTML page; all texts of the data are escaped."""
    diagnostics = findings.diagnostics
    confusion = diagnostics.get("confusion")
    matrix = None if confusion is None else confusion["matrix"]
    classes = sorted(diagnostics.get("classes", []), key=lambda row: (-(row["loss_sum"] or 0.0), row["class"]))
    environment = _environment()
    environment.filters["class_name"] = findings.name
    return environment.get_template("report.html.j2").render(
        title=f"Run {diagnostics['run']}, epoch {diagnostics['epoch']}",
        run=findings.run,
        diagnostics=diagnostics,
        elements=diagnostics.get("elements"),
        element_lines=findings.element_lines,
        element_tables=findings.element_tables,
        review_lines=findings.review_lines,
        label_errors=diagnostics.get("label_errors"),
        calibration=diagnostics.get("calibration"),
        dynamics=None if findings.dynamics is None else describe_dynamics(findings.dynamics),
        class_pairs=(diagnostics.get("class_pairs") or [])[:PAIRS_SHOWN],
        classes=classes[:CLASSES_SHOWN],
        num_classes=len(classes),
        confusion_rows=_confusion_rows(matrix) if matrix and len(matrix) <= MATRIX_CLASSES else None,
        most_confused=[] if confusion is None else confusion["largest"][:PAIRS_SHOWN],
        examples=findings.examples,
        charts=charts,
        version=__version__,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.cli.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "thousands": lambda count: f"{count:,}",
        "attributes_text": _attributes_text,
    }
    return environment


def _attributes_text(attributes: Mapping[str, object]) -> str:
    text = "; ".join(f"{name}: {_value_text(value)}" for name, value in attributes.items())
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"


def _value_text(value: object) -> str:
    """A value as text; a list, such as the tokens of a sentence, as its values with spaces."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class _Cell:
    """Cell of the confusion matrix; `strength` in [0, 1] is the opacity of its background."""

    count: int
    kind: Literal["right", "wrong", "right strong", "wrong strong"]
    strength: float


@dataclass(frozen=True)
class _Row:
    """Row of the confusion matrix: the predictions for the examples of one label."""

    label: int
    cells: list[_Cell]


def _confusion_rows(matrix: Sequence[Sequence[int]]) -> list[_Row]:
    rows = []
    for label, counts in enumerate(matrix):
        total = sum(counts) or 1
        cells = [_cell(count, count / total, right=label == prediction) for prediction, count in enumerate(counts)]
        rows.append(_Row(label, cells))
    return rows


def _cell(count: int, share: float, *, right: bool) -> _Cell:
    # The square root makes small shares off the diagonal visible.
    strength = share if right else share**0.5
    if strength > 0.55:
        return _Cell(count, "right strong" if right else "wrong strong", strength)
    return _Cell(count, "right" if right else "wrong", strength)
