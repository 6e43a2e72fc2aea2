"""How much of the loss sits in how few examples: histogram, Lorenz curve, Gini coefficient, top shares."""

from __future__ import annotations

import math
from typing import Any

from service.runs.queries import View, Weighting

LORENZ_STEPS = 100
BINS_PER_DECADE, DECADES = 4, 8


def concentration(view: View, weighting: Weighting, epoch: int) -> dict[str, Any]:
    """Gini coefficient, Lorenz points, and the share of the loss in the hardest 1, 5 and 10 % of the examples.

    - gini: sum_i (2i - n - 1) x_(i) / (n sum x) with losses x ascending; 0 where all are equal;
    - lorenz: at most 101 pairs (share of the examples, easiest first; share of the loss that they have);
    - top_1_percent, ...: share of the loss in the ceil(n / 100) hardest, ...

    All null for a run without loss.
    """
    ranked = f"""SELECT loss, row_number() OVER (ORDER BY loss) AS i, count(*) OVER () AS n
        FROM {view.scored(weighting, epoch)}"""
    top = ", ".join(f"sum(loss) FILTER (i > n - ceil(n * {p} / 100)) AS top_{p}" for p in (1, 5, 10))
    rows = view.rows(
        f"""SELECT CAST(ceil(i * {LORENZ_STEPS} / n) AS INTEGER) AS step, count(*) AS number, sum(loss) AS loss,
            sum((2 * i - n - 1) * loss) AS weighted, {top} FROM ({ranked}) GROUP BY step ORDER BY step"""
    )
    number, total = sum(row["number"] for row in rows), sum(row["loss"] for row in rows)
    if not total or math.isinf(total):
        return {"gini": None, "lorenz": None, **{f"top_{p}_percent": None for p in (1, 5, 10)}}
    lorenz, examples, loss = [[0.0, 0.0]], 0, 0.0
    for row in rows:
        examples, loss = examples + row["number"], loss + row["loss"]
        lorenz.append([examples / number, min(1.0, loss / total)])
    shares = {f"top_{p}_percent": sum(row[f"top_{p}"] or 0.0 for row in rows) / total for p in (1, 5, 10)}
    return {"gini": sum(row["weighted"] for row in rows) / (number * total), "lorenz": lorenz, **shares}


def histogram(view: View, weighting: Weighting, epoch: int) -> dict[str, Any]:
    """How many examples have which loss: bins [edges[i], edges[i + 1]), the last one closed.

    The first begins at 0; the others are a quarter of a decade wide, down to 1e-8 of the largest loss, since losses
    spread over many decades. None for a run without loss, or with one that no double holds.
    """
    largest = view.row(f"SELECT max(loss) AS largest FROM {view.scored(weighting, epoch)}")["largest"]
    if not largest or math.isinf(largest):
        return {"edges": [], "counts": []}
    steps = BINS_PER_DECADE * DECADES
    edges = [0.0, *(largest * 10 ** ((step - steps) / BINS_PER_DECADE) for step in range(steps)), largest]
    # The bin is how many edges are not above the loss.
    place = " + ".join(f"(loss >= {edge!r})::INTEGER" for edge in edges[1:-1])
    rows = view.rows(f"SELECT {place} AS bin, count(*) AS number FROM {view.scored(weighting, epoch)} GROUP BY bin")
    counts = [0] * (len(edges) - 1)
    for row in rows:
        counts[row["bin"]] = row["number"]
    return {"edges": edges, "counts": counts}
