"""Counts, losses and confusions of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.config import ClassCounts
from service.schema.replies.diagnostics import ClassCount, ClassStatistics, Confusion, ConfusionCell, SuggestedAlpha

# A larger matrix cannot be drawn legibly, and makes a long reply.
MATRIX_CLASSES = 200
TABLE_CLASSES = 1000
LARGEST_CONFUSIONS = 100

_COUNTS = """
    SELECT coalesce(t.target, p.prediction) AS class, coalesce(n, 0) AS count, coalesce(loss_sum, 0.0) AS loss_sum,
        coalesce(correct, 0) AS correct, coalesce(predicted, 0) AS predicted, sum(t.loss_sum) OVER () AS total
    FROM (SELECT target, count(*) AS n, sum(loss) AS loss_sum, count(*) FILTER (prediction = target) AS correct
          FROM {scored} GROUP BY target) t
    FULL JOIN (SELECT prediction, count(*) AS predicted FROM {scored} GROUP BY prediction) p
        ON t.target = p.prediction
    ORDER BY loss_sum DESC, class LIMIT {limit}"""

_MOST_CONFUSED = """
    SELECT target, prediction, n FROM
        (SELECT target, prediction, count(*) AS n FROM {scored}
         WHERE prediction != target AND target IN (SELECT unnest(?::INTEGER[])) GROUP BY ALL)
    QUALIFY row_number() OVER (PARTITION BY target ORDER BY n DESC, prediction) = 1"""


def class_table(view: View, weighting: Weighting, epoch: int) -> list[ClassStatistics]:
    """Statistics of each class of a run, without the estimates of label noise.

    A run of more than `TABLE_CLASSES` classes has that many rows, those of the classes with the largest sum of losses;
    else there is also a row for each class without examples.
    """
    scored = view.scored(weighting, epoch)
    rows = view.rows(_COUNTS.format(scored=scored, limit=TABLE_CLASSES))
    counts = {row["class"]: row for row in rows}
    total = rows[0]["total"] if rows else None
    num_classes = view.snapshot.num_classes or 0
    labels = range(num_classes) if num_classes <= TABLE_CLASSES else sorted(counts)
    confused: dict[int, ClassCount] = {
        row["target"]: {"class": row["prediction"], "count": row["n"]}
        for row in view.rows(_MOST_CONFUSED.format(scored=scored), [list(labels)])
    }
    names = view.snapshot.description.class_names
    without_examples = {"count": 0, "loss_sum": 0.0, "correct": 0, "predicted": 0}
    table: list[ClassStatistics] = []
    for label in labels:
        row = counts.get(label, without_examples)
        count = row["count"]
        table.append(
            {
                "class": label,
                "name": None if names is None else names[label],
                "count": count,
                "loss_sum": row["loss_sum"],
                "loss_share": row["loss_sum"] / total if total else None,
                "mean_loss": row["loss_sum"] / count if count else None,
                "recall": row["correct"] / count if count else None,
                "predicted": row["predicted"],
                "most_confused": confused.get(label),
            }
        )
    return table


def confusion(view: View, epoch: int) -> Confusion:
    """Confusion matrix of an epoch, and its largest cells off the diagonal."""
    cells = f"SELECT target, prediction, count(*) AS count FROM {view.stored(epoch)}"
    largest = view.rows(
        f"{cells} WHERE target != prediction GROUP BY ALL ORDER BY count DESC, target, prediction "
        f"LIMIT {LARGEST_CONFUSIONS}"
    )
    num_classes = view.snapshot.num_classes or 0
    matrix = None
    if num_classes <= MATRIX_CLASSES:
        matrix = [[0] * num_classes for _ in range(num_classes)]
        for cell in view.rows(f"{cells} GROUP BY ALL"):
            matrix[cell["target"]][cell["prediction"]] = cell["count"]
    return {"matrix": matrix, "largest": cast("list[ConfusionCell]", largest)}


def suggested_alpha(counts: Sequence[int]) -> SuggestedAlpha | None:
    """Class weights that balance the classes; None if a class has no examples or there is no second class.

    Args:
        counts: Examples of each class.
    """
    if len(counts) < 2 or min(counts) < 1:
        return None
    return {
        "inverse": list(ClassCounts(class_counts=tuple(counts), scheme="inverse").weights()),
        "effective": list(ClassCounts(class_counts=tuple(counts), scheme="effective").weights()),
    }
