"""Comparison of two runs, example by example: newly hard, resolved, and moved examples."""

from __future__ import annotations

import math
from typing import cast

from service.diagnostics.classes import TABLE_CLASSES
from service.diagnostics.element_changes import num_changed
from service.errors import InvalidConfigError, InvalidRequestError
from service.queries.sql import literal
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.faults import fault
from service.schema.replies.comparison import ComparedClass, ComparedExample, Comparison

MAX_MOVES = 50


def compare(
    view: View, other: View, weighting: Weighting, epochs: tuple[int, int], top: int | None = None
) -> Comparison:
    """Compare two runs under the same loss.

    The hardest examples of a run are the `top` examples by loss, then by id. Ranks are among the examples that both
    runs have.

    Args:
        view: The first run.
        other: The second run, on the same connection.
        weighting: Weighting of the losses of both runs.
        epochs: Epoch of the first and of the second run.
        top: Number of hardest examples; default 1 % of the common examples, at least 10.

    Raises:
        InvalidConfigError: The number of classes of `other` is not the number of class weights.
        InvalidRequestError: The runs have different tasks.
    """
    _check_fits(view, weighting, other)
    before, after = view.num_examples(epochs[0]), other.num_examples(epochs[1])
    view.execute(f"CREATE OR REPLACE TEMP TABLE ranked AS {_joined(view, other, weighting, epochs)}")
    try:
        number = view.row("SELECT count(*) AS n FROM ranked")["n"]
        top = min(number, max(10, math.ceil(number / 100)) if top is None else top)
        limit = literal(top)
        reply = {
            "before": {"run": view.snapshot.name, "epoch": epochs[0], "num_examples": before},
            "after": {"run": other.snapshot.name, "epoch": epochs[1], "num_examples": after},
            "num_common": number,
            "num_only_before": before - number,
            "num_only_after": after - number,
            "top": top,
            **_totals(view, top),
            **(num_changed((view, other), epochs) | _num_wrong(view) if view.is_structured else {}),
            "classes": _classes(view, limit),
            "newly_hard": _moved(view, f"rank_after <= {limit} AND rank_before > {limit}", "rank_after"),
            "resolved": _moved(view, f"rank_before <= {limit} AND rank_after > {limit}", "rank_before"),
            "moves": _moved(view, "rank_after != rank_before", "abs(rank_after - rank_before) DESC"),
        }
        return cast("Comparison", reply)
    finally:
        view.cursor.execute("DROP TABLE IF EXISTS ranked")


def _check_fits(view: View, weighting: Weighting, other: View) -> None:
    tasks = [of_run.snapshot.description.task for of_run in (view, other)]
    if tasks[0] != tasks[1]:
        msg = f"run {other.snapshot.name} has the task {tasks[1]}, run {view.snapshot.name} {tasks[0]}"
        raise fault(InvalidRequestError, msg, "path", "other")
    weights, num_classes = weighting.alpha, other.snapshot.num_classes
    is_one = tasks[0] == "multi_label" and weights is not None and len(weights) == 1
    if weights is not None and num_classes is not None and len(weights) != num_classes and not is_one:
        msg = f"alpha has {len(weights)} weights, run {other.snapshot.name} {num_classes} classes"
        raise fault(InvalidConfigError, msg, "query", "alpha")


def _joined(view: View, other: View, weighting: Weighting, epochs: tuple[int, int]) -> str:
    wrong = "a.num_wrong AS num_wrong_before, b.num_wrong AS num_wrong_after," if view.is_structured else ""
    return f"""SELECT id, a.target AS target_before, b.target AS target_after, a.prediction AS prediction_before,
            b.prediction AS prediction_after, {wrong} a.loss AS loss_before, b.loss AS loss_after,
            row_number() OVER (ORDER BY a.log_loss DESC, id) AS rank_before,
            row_number() OVER (ORDER BY b.log_loss DESC, id) AS rank_after
        FROM {view.scored(weighting, epochs[0])} a JOIN {other.scored(weighting, epochs[1])} b USING (id)"""


def _num_wrong(view: View) -> dict[str, object]:
    return view.row(
        """SELECT coalesce(sum(num_wrong_before), 0)::BIGINT AS num_wrong_before,
            coalesce(sum(num_wrong_after), 0)::BIGINT AS num_wrong_after FROM ranked"""
    )


def _totals(view: View, top: int) -> dict[str, object]:
    limit = literal(top)
    row = view.row(
        f"""SELECT avg(loss_before) AS mean_loss_before, avg(loss_after) AS mean_loss_after,
            count(*) FILTER (rank_before <= {limit} AND rank_after <= {limit}) AS both,
            count(*) FILTER (rank_before > {limit} AND rank_after <= {limit}) AS num_newly_hard,
            count(*) FILTER (rank_before <= {limit} AND rank_after > {limit}) AS num_resolved,
            count(*) FILTER (target_before != target_after) AS num_relabelled,
            count(*) FILTER (prediction_before != prediction_after) AS num_predicted_otherwise,
            sum((rank_before - rank_after) * (rank_before - rank_after))::DOUBLE AS squares, count(*) AS n
            FROM ranked"""
    )
    both, squares, number = row.pop("both"), row.pop("squares"), row.pop("n")
    overlap = both / top if top else None
    # Spearman's rho of ranks without ties.
    rho = 1 - 6 * squares / (number * (number**2 - 1)) if number > 1 else None
    return {**row, "overlap": overlap, "rank_correlation": rho}


def _classes(view: View, limit: str) -> list[ComparedClass]:
    if view.is_structured:
        return []
    return cast("list[ComparedClass]", view.rows(_CLASSES.format(limit=limit, classes=TABLE_CLASSES)))


# Of many classes those with the largest loss in the second run; the reply has them by number.
_CLASSES = """SELECT * EXCLUDE (loss_sum) FROM (
    SELECT target_after AS class, count(*) AS count,
    avg(loss_before) AS mean_loss_before, avg(loss_after) AS mean_loss_after, sum(loss_after) AS loss_sum,
    count(*) FILTER (rank_before > {limit} AND rank_after <= {limit}) AS num_newly_hard,
    count(*) FILTER (rank_before <= {limit} AND rank_after > {limit}) AS num_resolved
    FROM ranked GROUP BY class ORDER BY loss_sum DESC, class LIMIT {classes}) ORDER BY class"""


def _moved(view: View, condition: str, order: str) -> list[ComparedExample]:
    rows = view.rows(f"SELECT * FROM ranked WHERE {condition} ORDER BY {order}, id LIMIT {MAX_MOVES}")
    return cast("list[ComparedExample]", rows)
