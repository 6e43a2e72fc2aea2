"""Warnings about the verdicts of a run: habits of reviewers, and strategies that do not find what they promise."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from service.mining.progress import ReviewedQueues, progress, reviewed_queues
from service.mining.row_states import WORDS
from service.runs.review_history import ReviewHistory
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.replies.diagnostics import DiagnosticsWarning, WarningCode
from service.schema.replies.fields import Strategy
from service.schema.replies.reviews import Precision, Progress

# Smallest number of verdicts of ok or wrong that a warning needs, of each group that it compares.
MIN_JUDGED = 30
# Smallest distance of the expected share of wrong labels from the measured one that is worth a warning.
FAR = 0.2
# Codes of the verdicts ok and wrong in `RowStates`.
JUDGED = [WORDS.index("ok"), WORDS.index("wrong")]


def verdict_warnings(store: RunStore, snapshot: Snapshot, history: ReviewHistory) -> list[DiagnosticsWarning]:
    """Every warning that applies to the verdicts of a run."""
    known = progress(store, snapshot, history)
    return [
        *one_sided(_counts_by_reviewer(history)),
        *no_better_than_random(known["precision"], _comparable_rate(snapshot, known)),
        *far_from_expected(known["precision"], _expected_shares(reviewed_queues(store, snapshot, history))),
    ]


def queue_warnings(snapshot: Snapshot, known: Progress, strategies: Collection[Strategy]) -> list[str]:
    """Warnings that the verdicts so far give about a queue, without a pass over them.

    Args:
        snapshot: The run.
        known: Progress of its reviews.
        strategies: Strategies of the rows of the queue.
    """
    precisions = {strategy: found for strategy, found in known["precision"].items() if strategy in strategies}
    warnings = no_better_than_random(precisions, _comparable_rate(snapshot, known))
    return [warning["message"].removesuffix(".") for warning in warnings]


def _comparable_rate(snapshot: Snapshot, known: Progress) -> Precision | None:
    """The error rate of random rows, if it can be compared with the precision of strategies."""
    # A structured example is wrong if any of its elements is: its rate says nothing about units.
    return None if snapshot.description.is_structured else known["error_rate"]


def _counts_by_reviewer(history: ReviewHistory) -> dict[str | None, Counter[str | None]]:
    """The verdicts of each reviewer that count, adjudications aside."""
    pairs = Counter(
        (review["reviewer"], review["verdict"]) for standing in history.current for review in standing.reviews
    )
    counts: defaultdict[str | None, Counter[str | None]] = defaultdict(Counter)
    for (reviewer, verdict), number in pairs.items():
        counts[reviewer][verdict] = number
    return counts


def _expected_shares(queues: ReviewedQueues) -> dict[Strategy, float]:
    """Share of wrong labels that the model's own probabilities expect among the rows that are ok or wrong."""
    shares = {}
    for strategy, parts in queues.rows.by_strategy.items():
        expected = [
            queue.rows["p_wrong"].to_numpy()[rows[np.isin(states.codes[rows], JUDGED)]]
            for queue, states, rows in zip(queues.queues, queues.states, parts, strict=True)
        ]
        if any(map(len, expected)):
            shares[strategy] = float(np.concatenate(expected).mean())
    return shares


def one_sided(reviewers: Mapping[str | None, Mapping[str | None, int]]) -> Iterator[DiagnosticsWarning]:
    """Warn of reviewers who found every label wrong, which may be a habit.

    Args:
        reviewers: Number of the verdicts of each reviewer; None for those who gave no name.
    """
    for reviewer, counts in sorted(reviewers.items(), key=lambda item: item[0] or ""):
        num_wrong = counts.get("wrong", 0)
        if counts.get("ok", 0) or num_wrong < MIN_JUDGED:
            continue
        # The lower end of the one-sided 95 % interval of a share for which all trials are successes.
        least = 0.05 ** (1 / num_wrong)
        who = reviewer or "reviewers without a name"
        yield _warning(
            "one_sided_verdicts",
            f"All {num_wrong} verdicts of {who} are `wrong`. If fewer than {least:.1%} of these labels were wrong, "
            "that would have a chance below 5%: it may be a habit. Review some rows drawn at random, too: most of "
            "their labels should be right.",
        )


def no_better_than_random(
    precisions: Mapping[Strategy, Precision], error_rate: Precision | None
) -> Iterator[DiagnosticsWarning]:
    """Warn of strategies whose precision is not above the share of wrong labels in rows drawn at random.

    Args:
        precisions: Precision of each strategy.
        error_rate: Share of wrong labels in rows drawn at random; None if it is unknown or of something else.
    """
    if error_rate is None or error_rate["judged"] < MIN_JUDGED:
        return
    for strategy, found in precisions.items():
        if strategy == "random" or found["judged"] < MIN_JUDGED:
            continue
        gain, low = difference(found, error_rate)
        if low > 0:
            continue
        finding = (
            f"The rows of {strategy} are wrong no more often than rows drawn at random"
            if gain <= 0
            else f"That the rows of {strategy} are wrong more often than rows drawn at random may be chance"
        )
        yield _warning(
            "no_better_than_random",
            f"{finding}: {_share(found)} against {_share(error_rate)}. Try another strategy, unless few wrong labels "
            "are left.",
        )


def far_from_expected(
    precisions: Mapping[Strategy, Precision], expected: Mapping[Strategy, float]
) -> Iterator[DiagnosticsWarning]:
    """Warn of strategies whose precision is far from what the model's own probabilities expect.

    Args:
        precisions: Precision of each strategy.
        expected: Expected share of wrong labels of the same rows.
    """
    for strategy, found in precisions.items():
        share, low, high = found["share"], found["low"], found["high"]
        if strategy not in expected or share is None or low is None or high is None or found["judged"] < MIN_JUDGED:
            continue
        by_model = expected[strategy]
        if low <= by_model <= high or abs(share - by_model) < FAR:
            continue
        cause = "doubts too many labels" if share < by_model else "trusts too many labels"
        yield _warning(
            "far_from_expected",
            f"The model's probabilities let one expect {by_model:.0%} wrong labels among the reviewed rows of "
            f"{strategy}; reviewers found {_share(found)}. The model {cause}, or the verdicts follow a habit: do not "
            "rely on numbers that follow from its probabilities.",
        )


def _share(precision: Precision) -> str:
    low, high = precision["low"] or 0.0, precision["high"] or 0.0
    return f"{precision['wrong']} of {precision['judged']} (95% interval: {low:.0%} to {high:.0%})"


def difference(one: Precision, other: Precision) -> tuple[float, float]:
    """The difference of two shares, and the lower end of its 95 % interval (Newcombe 1998, method 10)."""
    share, others = one["share"] or 0.0, other["share"] or 0.0
    difference = share - others
    return difference, difference - math.hypot(share - (one["low"] or 0.0), (other["high"] or 0.0) - others)


def _warning(code: WarningCode, message: str) -> DiagnosticsWarning:
    return {"code": code, "message": message}
