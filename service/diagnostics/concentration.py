"""Concentration of the loss in few examples: histogram, Lorenz curve, Gini coefficient, top shares."""

from __future__ import annotations

import math

from service.queries.sql import literal
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.diagnostics import Concentration, Histogram

LORENZ_STEPS = 100
BINS_PER_DECADE, DECADES = 4, 8
TOP_PERCENTS = (1, 5, 10)


def concentration(view: View, weighting: Weighting, epoch: int, column: str = "loss") -> Concentration:
    """Gini coefficient, Lorenz curve, and the share of the loss in the hardest 1, 5 and 10 % of the examples.

    - gini: sum_i (2i - n - 1) x_(i) / (n sum x) with losses x ascending; 0 if all are equal;
    - lorenz: at most 101 pairs (share of the examples, easiest first; their share of the loss);
    - top_1_percent, ...: share of the loss in the ceil(n / 100) hardest examples, ...

    All members are None if the sum of losses is 0 or infinite.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: The epoch.
        column: Column of `View.scored` with the losses.
    """
    ranked = f"""SELECT {column} AS loss, row_number() OVER (ORDER BY {column}) AS i, count(*) OVER () AS n
        FROM {view.scored(weighting, epoch)}"""
    top = ", ".join(f"sum(loss) FILTER (i > n - ceil(n * {p} / 100)) AS top_{p}" for p in TOP_PERCENTS)
    steps = view.rows(
        f"""SELECT CAST(ceil(i * {LORENZ_STEPS} / n) AS INTEGER) AS step, count(*) AS number, sum(loss) AS loss,
            sum((2 * i - n - 1) * loss) AS weighted, {top} FROM ({ranked}) GROUP BY step ORDER BY step"""
    )
    number, total = sum(step["number"] for step in steps), sum(step["loss"] for step in steps)
    if not total or math.isinf(total):
        return {"gini": None, "lorenz": None, "top_1_percent": None, "top_5_percent": None, "top_10_percent": None}
    lorenz, examples, loss = [[0.0, 0.0]], 0, 0.0
    for step in steps:
        examples, loss = examples + step["number"], loss + step["loss"]
        lorenz.append([examples / number, min(1.0, loss / total)])
    top_1, top_5, top_10 = (sum(step[f"top_{p}"] or 0.0 for step in steps) / total for p in TOP_PERCENTS)
    return {
        "gini": sum(step["weighted"] for step in steps) / (number * total),
        "lorenz": lorenz,
        "top_1_percent": top_1,
        "top_5_percent": top_5,
        "top_10_percent": top_10,
    }


def concentration_at_gamma_0(view: View, weighting: Weighting, epoch: int) -> Concentration:
    """Concentration of the weighted cross-entropy."""
    run = view.snapshot.description
    if view.is_structured and weighting.alpha is None and run.within == "mean":
        # It is a column of any loss, and another loss of all elements takes seconds.
        return concentration(view, weighting, epoch, "cross_entropy")
    return concentration(view, Weighting(weighting.alpha, 0.0), epoch)


def histogram(view: View, weighting: Weighting, epoch: int) -> Histogram:
    """Histogram of the losses, with bins [edges[i], edges[i + 1]) and a closed last bin.

    The first bin begins at 0. The others are a quarter of a decade wide, down to 1e-8 of the largest loss, as losses
    spread over many decades. There are no bins if the largest loss is 0 or infinite.
    """
    scored = view.scored(weighting, epoch)
    largest = view.row(f"SELECT max(loss) AS largest FROM {scored}")["largest"]
    if not largest or math.isinf(largest):
        return {"edges": [], "counts": []}
    steps = BINS_PER_DECADE * DECADES
    edges = [0.0, *(largest * 10 ** ((step - steps) / BINS_PER_DECADE) for step in range(steps)), largest]
    # The index of the bin is the number of inner edges that are not above the loss.
    index = " + ".join(f"(loss >= {literal(edge)})::INTEGER" for edge in edges[1:-1])
    counts = [0] * (len(edges) - 1)
    for row in view.rows(f"SELECT {index} AS bin, count(*) AS number FROM {scored} GROUP BY bin"):
        counts[row["bin"]] = row["number"]
    return {"edges": edges, "counts": counts}
