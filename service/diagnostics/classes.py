"""Counts, losses and confusions of the classes."""

from __future__ import annotations

from typing import Any

from service.runs.queries import View, Weighting
from service.schema.config import ClassCounts

# A matrix of more cells is no picture any more, and a long reply.
MATRIX_CLASSES = 200
CONFUSIONS_NAMED = 100


def class_table(view: View, weighting: Weighting, epoch: int) -> list[dict[str, Any]]:
    """A row for each class of the run, those without examples too.

    Each has `class`, `name`, `count`, `loss_sum`, `loss_share`, `mean_loss`, `recall` (share of its examples that are
    predicted as it), `predicted` (how many examples are), and `most_confused` (what its others are predicted as most
    often, and how many).
    """
    found = {row["class"]: row for row in view.rows(_TABLE.format(scored=view.scored(weighting, epoch)))}
    confused = {row["target"]: row for row in view.rows(_CONFUSED.format(scored=view.scored(weighting, epoch)))}
    total = sum(row["loss_sum"] or 0.0 for row in found.values())
    names = view.snapshot.description.class_names
    table = []
    for label in range(view.snapshot.num_classes or 0):
        row = found.get(label, {"class": label, "count": 0, "loss_sum": 0.0, "correct": 0, "predicted": 0})
        number = row["count"]
        worst = confused.get(label)
        table.append(
            {
                "class": label,
                "name": None if names is None else names[label],
                "count": number,
                "loss_sum": row["loss_sum"],
                "loss_share": row["loss_sum"] / total if total else None,
                "mean_loss": row["loss_sum"] / number if number else None,
                "recall": row["correct"] / number if number else None,
                "predicted": row["predicted"],
                "most_confused": worst and {"class": worst["prediction"], "count": worst["n"]},
            }
        )
    return table


_TABLE = """
    SELECT coalesce(t.target, p.prediction) AS class, coalesce(n, 0) AS count, coalesce(loss_sum, 0.0) AS loss_sum,
        coalesce(correct, 0) AS correct, coalesce(predicted, 0) AS predicted
    FROM (SELECT target, count(*) AS n, sum(loss) AS loss_sum, count(*) FILTER (prediction = target) AS correct
          FROM {scored} GROUP BY target) t
    FULL JOIN (SELECT prediction, count(*) AS predicted FROM {scored} GROUP BY prediction) p
        ON t.target = p.prediction"""

_CONFUSED = """
    SELECT target, prediction, n FROM
        (SELECT target, prediction, count(*) AS n FROM {scored} WHERE prediction != target GROUP BY ALL)
    QUALIFY row_number() OVER (PARTITION BY target ORDER BY n DESC, prediction) = 1"""


def confusion(view: View, epoch: int) -> dict[str, Any]:
    """How often examples of a class are predicted as another.

    `matrix[target][prediction]` counts examples, null above 200 classes; `largest` names the cells off the diagonal
    with most, at most 100.
    """
    cells = view.rows(
        f"SELECT target, prediction, count(*) AS count FROM {view.stored(epoch)} GROUP BY ALL "
        "ORDER BY count DESC, target, prediction"
    )
    num_classes = view.snapshot.num_classes or 0
    matrix = None
    if num_classes <= MATRIX_CLASSES:
        matrix = [[0] * num_classes for _ in range(num_classes)]
        for cell in cells:
            matrix[cell["target"]][cell["prediction"]] = cell["count"]
    off = [cell for cell in cells if cell["target"] != cell["prediction"]]
    return {"matrix": matrix, "largest": off[:CONFUSIONS_NAMED]}


def suggested_alpha(table: list[dict[str, Any]]) -> dict[str, list[float]] | None:
    """Class weights that even out the classes, by both schemes of `alpha`; None where a class has no examples."""
    counts = [row["count"] for row in table]
    if len(counts) < 2 or min(counts) < 1:
        return None
    return {
        "inverse": list(ClassCounts(class_counts=tuple(counts), scheme="inverse").weights()),
        "effective": list(ClassCounts(class_counts=tuple(counts), scheme="effective").weights()),
    }
