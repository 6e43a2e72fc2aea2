"""Training dynamics: statistics of the examples over epochs.

Swayamdipta et al. 2020 (confidence, variability, correctness), Pleiss et al. 2020 (area under the margin), Toneva et
al. 2019 (forgetting). Means over epochs are sums of integers in units of 2^-30, so that they do not depend on the order
in which rows are read, and sorting by them is reproducible.
"""

from __future__ import annotations

from typing import cast

from service.queries.order import sort_keys
from service.queries.sql import LATEST, literal
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.dynamics import Dynamics, ExampleDynamics, Region, RegionCounts

UNIT = 2**30
COLUMNS = tuple(ExampleDynamics.__annotations__)
# Bounds of the regions of the data map. The paper takes thirds of the examples by rank; with fixed bounds the regions
# of two runs are comparable, and the region of an example does not depend on the others.
EASY_CONFIDENCE, HARD_CONFIDENCE, AMBIGUOUS_VARIABILITY = 0.75, 0.25, 0.2


# If all other classes are masked, the margin is infinite: the bound keeps its mean finite and above all other means.
MARGIN = "greatest(least(logit_margin::DOUBLE, 1e9), -1e9)"


def _total(column: str) -> str:
    return f"sum(CAST({column} * {UNIT} AS HUGEINT))"


def _mean_margin(view: View) -> str:
    """The mean margin of an example; null in a structured run if a row was sent as statistics without a margin."""
    if not view.is_structured:
        return f"({_total(MARGIN)} / {UNIT} / count(*))::DOUBLE"
    known = f"CASE WHEN isnan(logit_margin) THEN 0 ELSE {MARGIN} END"
    return f"(CASE WHEN NOT bool_or(isnan(logit_margin)) THEN {_total(known)} / {UNIT} / count(*) END)::DOUBLE"


def dynamics(view: View, weighting: Weighting, first: int | None = None) -> str:
    """Subquery with a row of `COLUMNS` for each example; see `ExampleDynamics`.

    Args:
        view: The run.
        weighting: Weighting of `mean_loss`.
        first: Number of first epochs of the run to read; None for all.
    """
    rows = f"(SELECT * FROM {view.scored(weighting)} WHERE epoch <= {literal(last_epoch(view, first))})"
    with_previous = f"""SELECT *, {view.correct} AS correct, CAST(p_t * {UNIT} AS HUGEINT) AS p,
            lag({view.correct}) OVER (PARTITION BY id ORDER BY epoch, batch, row) AS was_correct FROM {rows}"""
    sums = f"""SELECT id, arg_max(target, {LATEST}) AS target, count(*) AS epochs,
            sum(p) AS p_sum, sum(p * p) AS p_squares, count(correct) = count(*) AS is_known,
            count(*) FILTER (correct) AS number_correct,
            {_mean_margin(view)} AS area_under_margin,
            {_total("least(loss, 1e15)")} / {UNIT} / count(*) AS mean_loss,
            count(*) FILTER (was_correct AND NOT correct) AS number_forgotten,
            min(epoch) FILTER (correct) AS first_learned
        FROM ({with_previous}) GROUP BY id"""
    return f"""(SELECT id, target, epochs,
            (p_sum / {UNIT} / epochs)::DOUBLE AS confidence,
            sqrt(greatest(epochs * p_squares - p_sum * p_sum, 0)::DOUBLE) / epochs / {UNIT} AS variability,
            CASE WHEN is_known THEN number_correct END AS correctness,
            confidence * (1 - confidence) AS threshold_closeness,
            area_under_margin, mean_loss::DOUBLE AS mean_loss,
            CASE WHEN is_known THEN number_forgotten END AS forgetting_events,
            CASE WHEN is_known THEN first_learned IS NULL END AS never_learned, first_learned,
            CASE WHEN variability >= {AMBIGUOUS_VARIABILITY} THEN 'ambiguous'
                 WHEN confidence >= {EASY_CONFIDENCE} THEN 'easy'
                 WHEN confidence <= {HARD_CONFIDENCE} THEN 'hard_to_learn'
                 ELSE 'between' END AS region
        FROM ({sums}))"""


def area_under_margin(view: View, first: int | None = None) -> str:
    """Subquery with the `id` and `area_under_margin` of `dynamics`, several times as fast."""
    return f"""(SELECT id, {_mean_margin(view)} AS area_under_margin
        FROM {view.stored()} WHERE epoch <= {literal(last_epoch(view, first))} GROUP BY id)"""


def last_epoch(view: View, first: int | None) -> int:
    """Last of the `first` epochs of the run, or of all epochs; -1 if there is none."""
    return max(view.snapshot.epochs[:first], default=-1)


# The largest standard deviation of p_t, which lies in [0, 1].
LARGEST_VARIABILITY = 0.5
MAX_BINS = 200
REGIONS = tuple(RegionCounts.__annotations__)
AVERAGED = ("confidence", "variability", "area_under_margin")
_SUMMARY = f"""SELECT count(*) AS num_examples, count(*) FILTER (never_learned) AS never_learned,
    count(*) FILTER (forgetting_events > 0) AS forgotten,
    {", ".join(f"({_total(name)} / {UNIT} / count({name}))::DOUBLE AS mean_{name}" for name in AVERAGED)},
    {", ".join(f"count(*) FILTER (region = '{name}') AS {name}" for name in REGIONS)} FROM dynamics"""
_MAP = """SELECT (least(floor(confidence * {bins}), {bins} - 1) + 0.5) / {bins} AS confidence,
    (least(floor(variability / {width}), {bins} - 1) + 0.5) * {width} AS variability,
    count(*) AS count, avg(correctness / epochs) AS correctness FROM dynamics GROUP BY 1, 2 ORDER BY 1, 2"""


def dynamics_page(
    view: View,
    weighting: Weighting,
    *,
    first: int | None = None,
    sort: str = "area_under_margin",
    region: Region | None = None,
    limit: int = 100,
    offset: int = 0,
    bins: int | None = None,
) -> Dynamics:
    """The reply of `GET /runs/{run}/dynamics`.

    Args:
        view: The run.
        weighting: Weighting of `mean_loss`.
        first: Number of first epochs of the run to read; None for all.
        sort: Names of `COLUMNS` with commas, a leading minus for descending order; ties by id.
        region: Restricts the rows to a region of the data map.
        limit: Maximum number of rows.
        offset: Number of rows to skip.
        bins: Adds `map`, the data map as a grid of `bins` by `bins` cells.

    Raises:
        InvalidRequestError: Unknown sort key; lists the known names.
    """
    order = "".join(
        f"{column} {'DESC' if descending else 'ASC'} NULLS LAST, " for column, descending in sort_keys(sort, COLUMNS)
    )
    condition, parameters = ("true", []) if region is None else ("region = ?", [region])
    # One table for the page and the totals, as the window over all epochs takes most of the time.
    view.execute(f"CREATE OR REPLACE TEMP TABLE dynamics AS SELECT * FROM {dynamics(view, weighting, first)}")
    try:
        rows = view.rows(
            f"SELECT {', '.join(COLUMNS)} FROM dynamics WHERE {condition} "
            f"ORDER BY {order}id LIMIT {literal(limit)} OFFSET {literal(offset)}",
            parameters,
        )
        num_matching = view.row(f"SELECT count(*) AS n FROM dynamics WHERE {condition}", parameters)["n"]
        totals = view.row(_SUMMARY)
        grid = (
            {}
            if bins is None
            else {"map": view.rows(_MAP.format(bins=literal(bins), width=literal(LARGEST_VARIABILITY / bins)))}
        )
    finally:
        view.cursor.execute("DROP TABLE IF EXISTS dynamics")
    regions = {name: totals.pop(name) for name in REGIONS}
    reply = {
        "run": view.snapshot.name,
        "epochs": view.snapshot.epochs[:first],
        "num_matching": num_matching,
        "summary": {**totals, "regions": regions},
        **grid,
        "rows": rows,
    }
    return cast("Dynamics", reply)
