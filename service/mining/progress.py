"""Statistics of the verdicts of a run: precision of each strategy, error rate, and expected yield of a queue."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from service.mining.first_rows import FirstRows, first_rows
from service.mining.key_index import Rows
from service.mining.queue_table import ExpectedErrors, QueueTable
from service.mining.queues import outlines
from service.mining.row_states import RowStates
from service.runs.review_history import ReviewHistory
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import ExpectedYield
from service.schema.replies.reviews import Precision, Progress

Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution
# Smallest number of verdicts of ok or wrong from which the precision of a strategy is used.
MIN_VERDICTS = 10


class ReviewedQueues(NamedTuple):
    """All queues of a run with the verdicts on their rows.

    Args:
        queues: Outlines of the queues.
        rows: The rows of each queue, each example or unit once.
        states: The verdicts on the rows of each queue.
    """

    queues: Sequence[QueueTable]
    rows: FirstRows
    states: Sequence[RowStates]


def reviewed_queues(store: RunStore, snapshot: Snapshot, history: ReviewHistory) -> ReviewedQueues:
    """All queues of a run with the verdicts of a history."""
    queues = outlines(store, snapshot)
    version = tuple(queue.identity for queue in queues)
    rows = store.documents.derived(snapshot.root, version, lambda: first_rows(queues, snapshot.description.task))
    return ReviewedQueues(queues, rows, [queue.tracker.at(history) for queue in queues])


def progress(store: RunStore, snapshot: Snapshot, history: ReviewHistory) -> Progress:
    """Count the verdicts of a run, and estimate the precision of each strategy and the error rate of the run.

    - precision: the share of wrong among the rows of a strategy, examples or units, that have a verdict of ok or wrong,
      with its 95 % Wilson interval;
    - error_rate: the same for the examples drawn at random from all examples: an unbiased estimate for the run. A
      structured example is wrong if one of its elements is.
    """
    queues = reviewed_queues(store, snapshot, history)
    rows = queues.rows

    def share(parts: Sequence[Rows]) -> Precision:
        counts = Counter[str]()
        for one, part in zip(queues.states, parts, strict=True):
            counts.update(one.counts(part))
        return precision(counts)

    return {
        "num_reviewed": sum(history.counts.values()),
        "num_wrong": history.counts.get("wrong", 0),
        "num_ok": history.counts.get("ok", 0),
        "num_unsure": history.counts.get("unsure", 0),
        "num_exclude": history.counts.get("exclude", 0),
        "num_conflict": history.counts.get("conflict", 0),
        "precision": {strategy: share(rows.by_strategy[strategy]) for strategy in sorted(rows.by_strategy)},
        "error_rate": share(rows.control) if any(map(len, rows.control)) else None,
    }


def precision(counts: Mapping[str, int]) -> Precision:
    """Share of wrong among the examples and units with a verdict of ok or wrong, with its 95 % interval.

    Args:
        counts: Number of examples and units with each verdict.
    """
    wrong, judged = counts.get("wrong", 0), counts.get("wrong", 0) + counts.get("ok", 0)
    low, high = wilson(wrong, judged)
    return {
        "reviewed": sum(counts.values()),
        "judged": judged,
        "wrong": wrong,
        "unsure": counts.get("unsure", 0),
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
