"""Statistics of the verdicts of a run: precision of each strategy, error rate, and expected yield of a queue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from service.mining.queue_table import ExpectedErrors
from service.mining.queues import outlines
from service.runs.review_history import ReviewHistory, Standing
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import ExpectedYield
from service.schema.replies.reviews import Precision, Progress

Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution
# Smallest number of verdicts of ok or wrong from which the precision of a strategy is used.
MIN_VERDICTS = 10


def progress(store: RunStore, snapshot: Snapshot, history: ReviewHistory) -> Progress:
    """Count the verdicts of a run, and estimate the precision of each strategy and the error rate of the run.

    - precision: the share of wrong among the rows of a strategy, examples or units, that have a verdict of ok or wrong,
      with its 95 % Wilson interval;
    - error_rate: the same for the examples drawn at random from all examples: an unbiased estimate for the run. A
      structured example is wrong if one of its elements is.
    """
    # A row may be in several queues.
    found: dict[Strategy, dict[tuple[UnitKey, int | None], Standing]] = {}
    control: dict[UnitKey, Standing] = {}
    has_control = False
    ids = pa.array([key.id for of_epoch in history.standings.values() for key in of_epoch], pa.string())
    for queue in outlines(store, snapshot):
        for strategy in queue.expected_errors:
            found.setdefault(strategy, {})
        has_control |= bool(pc.any(queue.rows["control"]).as_py())
        # Most rows have no verdict: Arrow leaves those of other examples out.
        some, verdicts = queue.of_ids(ids), history.verdicts_of(queue.head["epoch"])
        columns = (some.rows[name].to_pylist() for name in ("strategy", "control"))
        for key, strategy, is_control in zip(some.unit_keys(), *columns, strict=True):
            if (standing := verdicts.get(key)) is not None:
                found[strategy][key, standing.epoch] = standing
                if is_control:
                    control[key] = standing
    words = [standing.verdict for standing in history.current]
    return {
        "num_reviewed": len(words),
        "num_wrong": words.count("wrong"),
        "num_ok": words.count("ok"),
        "num_unsure": words.count("unsure"),
        "num_exclude": words.count("exclude"),
        "num_conflict": words.count("conflict"),
        "precision": {strategy: precision(found[strategy].values()) for strategy in sorted(found)},
        "error_rate": precision(control.values()) if has_control else None,
    }


def precision(standings: Iterable[Standing]) -> Precision:
    """Share of wrong among the examples and units with a verdict of ok or wrong, with its 95 % interval."""
    words = [standing.verdict for standing in standings]
    wrong, judged = words.count("wrong"), words.count("wrong") + words.count("ok")
    low, high = wilson(wrong, judged)
    return {
        "reviewed": len(words),
        "judged": judged,
        "wrong": wrong,
        "unsure": words.count("unsure"),
        "share": wrong / judged if judged else None,
        "low": low,
        "high": high,
    }


def wilson(successes: int, trials: int) -> tuple[float | None, float | None]:
    """The 95 % score interval of a share (Wilson 1927); (None, None) for 0 trials."""
    if not trials:
        return None, None
    share, square = successes / trials, Z_95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # For a share of 0 or 1 the interval ends exactly there; the formula would miss it by rounding.
    return middle - half if successes else 0.0, middle + half if successes < trials else 1.0


def expected_yield(
    errors: Mapping[Strategy, ExpectedErrors], precisions: Mapping[Strategy, Precision]
) -> ExpectedYield:
    """Estimate the number of wrong labels in a queue.

    The estimate uses the precision of a strategy if it has at least `MIN_VERDICTS` verdicts of ok or wrong, and the
    model's own probabilities otherwise.

    Args:
        errors: Estimate for each strategy in the queue by the model's own probabilities.
        precisions: Precision of each strategy, as `progress` returns it.
    """
    total, by_reviews, rows = 0.0, 0, 0
    for strategy, estimate in errors.items():
        measured = precisions.get(strategy)
        rows += estimate.num_rows
        if measured and measured["share"] is not None and measured["judged"] >= MIN_VERDICTS:
            total += estimate.num_rows * measured["share"]
            by_reviews += estimate.num_rows
        else:
            total += estimate.wrong_labels
    caveat = (
        "From the precision so far of the strategy: later rows are less suspicious than earlier ones, so expect fewer."
        if by_reviews == rows and rows
        else "The model's own doubt: true only as far as it is calibrated and has not seen the examples."
    )
    return {"wrong_labels": total, "rows": rows, "caveat": caveat}
