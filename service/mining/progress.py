"""Statistics of the verdicts of a run: precision of its strategies, error rate, and expected yield of a queue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from service.mining.listing import Doubt, listings
from service.runs.review_files import Verdicts
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import ExpectedYield
from service.schema.replies.reviews import Precision, Progress

Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution
# A strategy's precision counts from this many verdicts of ok or wrong on.
MIN_VERDICTS = 10


def progress(store: RunStore, snapshot: Snapshot, verdicts: Verdicts) -> Progress:
    """Count the verdicts of a run, and estimate the precision of each strategy and the error rate of the run.

    - precision: the share of wrong among the rows that a strategy put into queues and that have a verdict of ok or
      wrong, with its 95 % Wilson interval;
    - error_rate: the same for rows drawn at random from all examples: an unbiased estimate for the whole run.
    """
    of_strategy: dict[Strategy, set[str]] = {}
    control: set[str] = set()
    has_control = False
    reviewed = pa.array(list(verdicts), pa.string())
    for queue in listings(store, snapshot):
        for strategy in queue.doubts:
            of_strategy.setdefault(strategy, set())
        has_control |= bool(pc.any(queue.rows["control"]).as_py())
        rows = queue.rows.select(["id", "strategy", "control"]).filter(pc.is_in(queue.rows["id"], reviewed))
        for row in rows.to_pylist():
            of_strategy[row["strategy"]].add(row["id"])
            if row["control"]:
                control.add(row["id"])
    words = [review["verdict"] for review in verdicts.values()]
    return {
        "num_reviewed": len(words),
        "num_wrong": words.count("wrong"),
        "num_ok": words.count("ok"),
        "num_unsure": words.count("unsure"),
        "precision": {name: precision(ids, verdicts) for name, ids in sorted(of_strategy.items())},
        "error_rate": precision(control, verdicts) if has_control else None,
    }


def precision(ids: Iterable[str], verdicts: Verdicts) -> Precision:
    """Share of wrong among the examples with a verdict of ok or wrong, with its 95 % interval."""
    words = [verdicts[identity]["verdict"] for identity in ids if identity in verdicts]
    wrong, judged = words.count("wrong"), words.count("wrong") + words.count("ok")
    low, high = wilson(wrong, judged)
    return {
        "reviewed": len(words),
        "wrong": wrong,
        "unsure": words.count("unsure"),
        "share": wrong / judged if judged else None,
        "low": low,
        "high": high,
    }


def wilson(successes: int, trials: int) -> tuple[float | None, float | None]:
    """The 95 % score interval of a share (Wilson 1927); (None, None) without trials."""
    if not trials:
        return None, None
    share, square = successes / trials, Z_95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # For a share of 0 or 1 the interval ends exactly there; rounding would miss it slightly.
    return middle - half if successes else 0.0, middle + half if successes < trials else 1.0


def expected_yield(doubts: Mapping[Strategy, Doubt], precisions: Mapping[Strategy, Precision]) -> ExpectedYield:
    """Estimate the number of wrong labels in a queue.

    For a strategy with at least `MIN_VERDICTS` verdicts of ok or wrong by its precision so far, else by the model's
    doubt.

    Args:
        doubts: Doubt of the rows of each strategy in the queue.
        precisions: Precision of each strategy, as `progress` returns it.
    """
    total, by_reviews, rows = 0.0, 0, 0
    for strategy, doubt in doubts.items():
        so_far = precisions.get(strategy)
        rows += doubt.num_rows
        if so_far and so_far["share"] is not None and so_far["reviewed"] - so_far["unsure"] >= MIN_VERDICTS:
            total += doubt.num_rows * so_far["share"]
            by_reviews += doubt.num_rows
        else:
            total += doubt.wrong_labels
    caveat = (
        "From the precision so far of the strategy: later rows are less suspicious than earlier ones, so expect fewer."
        if by_reviews == rows and rows
        else "The model's own doubt: true only as far as it is calibrated and has not seen the examples."
    )
    return {"wrong_labels": total, "rows": rows, "caveat": caveat}
