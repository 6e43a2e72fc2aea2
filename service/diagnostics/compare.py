"""Two runs, example by example: what has become hard, what has been resolved, what has moved."""

from __future__ import annotations

import math
from typing import Any

from service.errors import InvalidConfigError
from service.runs.queries import View, Weighting

MOVES_NAMED = 50


def compare(
    view: View, other: View, weighting: Weighting, epochs: tuple[int, int], top: int | None = None
) -> dict[str, Any]:
    """What changed from one run to another, both under one loss.

    The hardest are the `top` examples by loss, then by id; ranks are among the examples that both runs have.

    - newly_hard: among the hardest of `other` and not of `view`; resolved: the other way round;
    - overlap: of the two sets of hardest, the share of the one that is in the other;
    - rank_correlation: Spearman's rho of the ranks;
    - moves: the largest changes of rank.

    Args:
        view: The run before.
        other: The run after, on the same connection.
        weighting: For the losses of both.
        epochs: Of the one and of the other.
        top: How many are the hardest; default: one in a hundred, at least 10.

    Raises:
        InvalidConfigError: `other` has another number of classes than the loss has weights.
    """
    _check_fits(weighting, other)
    counts = view.row(
        f"""SELECT (SELECT count(DISTINCT id) FROM {view.stored(epochs[0])}) AS before,
            (SELECT count(DISTINCT id) FROM {other.stored(epochs[1])}) AS after"""
    )
    view.cursor.execute(f"CREATE OR REPLACE TEMP TABLE ranked AS {_joined(view, other, weighting, epochs)}")
    try:
        number = view.row("SELECT count(*) AS n FROM ranked")["n"]
        top = min(number, max(10, math.ceil(number / 100)) if top is None else top)
        return {
            "before": {"run": view.snapshot.name, "epoch": epochs[0], "num_examples": counts["before"]},
            "after": {"run": other.snapshot.name, "epoch": epochs[1], "num_examples": counts["after"]},
            "num_common": number,
            "num_only_before": counts["before"] - number,
            "num_only_after": counts["after"] - number,
            "top": top,
            **_totals(view, top),
            "classes": view.rows(_CLASSES.format(top=top)),
            "newly_hard": _moved(view, f"rank_after <= {top} AND rank_before > {top}", "rank_after"),
            "resolved": _moved(view, f"rank_before <= {top} AND rank_after > {top}", "rank_before"),
            "moves": _moved(view, "rank_after != rank_before", "abs(rank_after - rank_before) DESC"),
        }
    finally:
        view.cursor.execute("DROP TABLE IF EXISTS ranked")


def _check_fits(weighting: Weighting, other: View) -> None:
    weights, num_classes = weighting.alpha, other.snapshot.num_classes
    if weights is not None and num_classes is not None and len(weights) != num_classes:
        msg = f"alpha has {len(weights)} weights, run {other.snapshot.name} {num_classes} classes"
        raise InvalidConfigError(msg, errors=[{"loc": ["query", "alpha"], "msg": msg}])


def _joined(view: View, other: View, weighting: Weighting, epochs: tuple[int, int]) -> str:
    def once(of: View, epoch: int) -> str:
        """One row for each id: the hardest, where an id came twice."""
        return f"""(SELECT id, arg_max(target, (log_loss, batch, row)) AS target,
            arg_max(prediction, (log_loss, batch, row)) AS prediction,
            max(loss) AS loss, max(log_loss) AS log_loss FROM {of.scored(weighting, epoch)} GROUP BY id)"""

    return f"""SELECT id, a.target AS target_before, b.target AS target_after, a.prediction AS prediction_before,
            b.prediction AS prediction_after, a.loss AS loss_before, b.loss AS loss_after,
            row_number() OVER (ORDER BY a.log_loss DESC, id) AS rank_before,
            row_number() OVER (ORDER BY b.log_loss DESC, id) AS rank_after
        FROM {once(view, epochs[0])} a JOIN {once(other, epochs[1])} b USING (id)"""


def _totals(view: View, top: int) -> dict[str, Any]:
    found = view.row(
        f"""SELECT avg(loss_before) AS mean_loss_before, avg(loss_after) AS mean_loss_after,
            count(*) FILTER (rank_before <= {top} AND rank_after <= {top}) AS both,
            count(*) FILTER (rank_before > {top} AND rank_after <= {top}) AS num_newly_hard,
            count(*) FILTER (rank_before <= {top} AND rank_after > {top}) AS num_resolved,
            count(*) FILTER (target_before != target_after) AS num_relabelled,
            count(*) FILTER (prediction_before != prediction_after) AS num_predicted_otherwise,
            sum((rank_before - rank_after) * (rank_before - rank_after))::DOUBLE AS squares, count(*) AS n
            FROM ranked"""
    )
    both, squares, number = found.pop("both"), found.pop("squares"), found.pop("n")
    overlap = both / top if top else None
    # Spearman's rho of ranks without ties.
    rho = 1 - 6 * squares / (number * (number**2 - 1)) if number > 1 else None
    return {**found, "overlap": overlap, "rank_correlation": rho}


_CLASSES = """SELECT target_after AS class, count(*) AS count, avg(loss_before) AS mean_loss_before,
    avg(loss_after) AS mean_loss_after,
    count(*) FILTER (rank_before > {top} AND rank_after <= {top}) AS num_newly_hard,
    count(*) FILTER (rank_before <= {top} AND rank_after > {top}) AS num_resolved
    FROM ranked GROUP BY class ORDER BY class"""


def _moved(view: View, condition: str, order: str) -> list[dict[str, Any]]:
    return view.rows(f"SELECT * FROM ranked WHERE {condition} ORDER BY {order}, id LIMIT {MOVES_NAMED}")
