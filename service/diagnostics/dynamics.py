"""How examples were learned: statistics over epochs.

Swayamdipta et al. 2020 (confidence, variability, correctness), Pleiss et al. 2020 (area under the margin), Toneva et
al. 2019 (forgetting). An example that comes twice in an epoch counts twice. Means over epochs are summed as integers
of 2^-30, so that they are the same to the bit in whatever order the rows are read, and the order by them is total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.errors import InvalidRequestError
from service.runs.examples import LAST_SENT
from service.runs.queries import View, Weighting

UNIT = 2**30
COLUMNS = (
    "id",
    "target",
    "epochs",
    "confidence",
    "variability",
    "correctness",
    "threshold_closeness",
    "area_under_margin",
    "mean_loss",
    "forgetting_events",
    "never_learned",
    "first_learned",
    "region",
)
# The data map's regions: shares of its axes. The paper takes thirds of the examples by rank; fixed bounds let two
# runs be compared and a page name a point without the others.
EASY_CONFIDENCE, HARD_CONFIDENCE, AMBIGUOUS_VARIABILITY = 0.75, 0.25, 0.2


# Where all other classes are masked the margin is infinite: a bound keeps its mean finite and above every other.
MARGIN = "greatest(least(logit_margin::DOUBLE, 1e9), -1e9)"


def _total(column: str) -> str:
    return f"sum(CAST({column} * {UNIT} AS HUGEINT))"


def dynamics(view: View, weighting: Weighting, first: int | None = None) -> str:
    """A subquery with a row of `COLUMNS` for each example.

    - confidence: mean p_t over the epochs; variability: its population standard deviation;
    - correctness: in how many of its `epochs` the prediction is the target;
    - area_under_margin: mean logit margin; mean_loss: of the focal loss;
    - forgetting_events: epochs in which it is wrong and was right in the one before that it has;
    - first_learned: first epoch in which it is right, null where `never_learned`;
    - region: `easy`, `ambiguous`, `hard_to_learn`, or `between`.

    Args:
        view: Of the run.
        weighting: For `mean_loss`.
        first: Only that many of the run's first epochs.
    """
    rows = f"(SELECT * FROM {view.scored(weighting)} WHERE epoch <= {last_epoch(view, first)})"

    moved = f"""SELECT *, prediction = target AS correct, CAST(p_t * {UNIT} AS HUGEINT) AS p,
            lag(prediction = target) OVER (PARTITION BY id ORDER BY epoch, batch, row) AS was_correct FROM {rows}"""
    sums = f"""SELECT id, arg_max(target, {LAST_SENT}) AS target, count(*) AS epochs,
            sum(p) AS p_sum, sum(p * p) AS p_squares, count(*) FILTER (correct) AS correctness,
            {_total(MARGIN)} / {UNIT} / count(*) AS area_under_margin,
            {_total("least(loss, 1e15)")} / {UNIT} / count(*) AS mean_loss,
            count(*) FILTER (was_correct AND NOT correct) AS forgetting_events,
            min(epoch) FILTER (correct) AS first_learned
        FROM ({moved}) GROUP BY id"""
    return f"""(SELECT id, target, epochs,
            (p_sum / {UNIT} / epochs)::DOUBLE AS confidence,
            sqrt(greatest(epochs * p_squares - p_sum * p_sum, 0)::DOUBLE) / epochs / {UNIT} AS variability,
            correctness,
            confidence * (1 - confidence) AS threshold_closeness,
            area_under_margin::DOUBLE AS area_under_margin, mean_loss::DOUBLE AS mean_loss,
            forgetting_events, first_learned IS NULL AS never_learned, first_learned,
            CASE WHEN variability >= {AMBIGUOUS_VARIABILITY} THEN 'ambiguous'
                 WHEN confidence >= {EASY_CONFIDENCE} THEN 'easy'
                 WHEN confidence <= {HARD_CONFIDENCE} THEN 'hard_to_learn'
                 ELSE 'between' END AS region
        FROM ({sums}))"""


def area_under_margin(view: View, first: int | None = None) -> str:
    """A subquery with `id` and `area_under_margin` alone, as `dynamics` has it; several times as fast."""
    return f"""(SELECT id, ({_total(MARGIN)} / {UNIT} / count(*))::DOUBLE AS area_under_margin
        FROM {view.stored()} WHERE epoch <= {last_epoch(view, first)} GROUP BY id)"""


def last_epoch(view: View, first: int | None) -> int:
    """The last of the run's first epochs, or of all; -1 where there is none."""
    return max(view.snapshot.epochs[:first], default=-1)


# p_t lies between 0 and 1, so its standard deviation is at most a half.
LARGEST_VARIABILITY = 0.5
MOST_BINS = 200
REGIONS = ("easy", "ambiguous", "hard_to_learn", "between")
AVERAGED = ("confidence", "variability", "area_under_margin")
_SUMMARY = f"""SELECT count(*) AS num_examples, count(*) FILTER (never_learned) AS never_learned,
    count(*) FILTER (forgetting_events > 0) AS forgotten,
    {", ".join(f"({_total(name)} / {UNIT} / count(*))::DOUBLE AS mean_{name}" for name in AVERAGED)},
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
    region: str | None = None,
    limit: int = 100,
    offset: int = 0,
    bins: int | None = None,
) -> dict[str, Any]:
    """Some examples with their dynamics, and the totals of all.

    Args:
        view: Of the run.
        weighting: For `mean_loss`.
        first: Only that many of the run's first epochs.
        sort: A name of `COLUMNS`, with a minus for descending; then by id.
        region: Only the examples of one region.
        limit: How many.
        offset: After how many.
        bins: `map`, the data map as a grid of so many by so many cells; each that has examples with its middle, their
            number, and the mean share of their epochs in which they are right.

    Raises:
        InvalidRequestError: An unknown sort key or region; lists the known.
    """
    column = sort.removeprefix("-")
    _check_known("sort", column, COLUMNS)
    if region is not None:
        _check_known("region", region, REGIONS)
    condition = "true" if region is None else f"region = '{region}'"
    direction = "DESC" if sort.startswith("-") else "ASC"
    # Once for the page and the totals: it is the window over all epochs that takes the time.
    view.cursor.execute(f"CREATE OR REPLACE TEMP TABLE dynamics AS SELECT * FROM {dynamics(view, weighting, first)}")
    try:
        rows = view.rows(
            f"SELECT {', '.join(COLUMNS)} FROM dynamics WHERE {condition} "
            f"ORDER BY {column} {direction} NULLS LAST, id LIMIT {limit} OFFSET {offset}"
        )
        number = view.row(f"SELECT count(*) AS n FROM dynamics WHERE {condition}")["n"]
        totals = view.row(_SUMMARY)
        cells = {} if bins is None else {"map": view.rows(_MAP.format(bins=bins, width=LARGEST_VARIABILITY / bins))}
    finally:
        view.cursor.execute("DROP TABLE IF EXISTS dynamics")
    regions = {name: totals.pop(name) for name in REGIONS}
    return {
        "run": view.snapshot.name,
        "epochs": view.snapshot.epochs[:first],
        "num_matching": number,
        "summary": {**totals, "regions": regions},
        **cells,
        "rows": rows,
    }


def _check_known(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        msg = f"unknown {name} {value[:100]!r}; known are {', '.join(known)}"
        raise InvalidRequestError(msg, errors=[{"loc": ["query", name], "msg": msg}])
