"""Verdicts of reviewers on gold rows, and their use of the model's suggestions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow.compute as pc

from service.mining.progress import wilson
from service.mining.queue_table import QueueTable
from service.runs.review_history import ReviewHistory, Standing
from service.runs.units import UnitKey
from service.schema.replies.agreement import GoldRows, Uptake
from service.schema.replies.reviews import Review

Shown = Literal["shown", "hidden"]
# The last review of each reviewer on each row, without the withdrawn ones.
LastReviews = dict[tuple[str | None, UnitKey], Review]


@dataclass(frozen=True)
class Observations:
    """Verdicts on rows of queues, by reviewer.

    Args:
        gold: For each gold row that a reviewer judged, True if the verdict is right.
        taken: For each judged row with a suggestion, by reviewer and visibility: True if the label is the suggested
            one.
    """

    gold: defaultdict[str | None, list[bool]] = field(default_factory=lambda: defaultdict(list))
    taken: defaultdict[tuple[str | None, Shown], list[bool]] = field(default_factory=lambda: defaultdict(list))

    def gold_rows(self, reviewer: str | None) -> GoldRows:
        """The hits of a reviewer on gold rows."""
        hits = self.gold.get(reviewer, [])
        return {"rows": len(hits), "hits": sum(hits), "share": sum(hits) / len(hits) if hits else None}

    def uptake(self, shown: Shown, *reviewers: str | None) -> Uptake:
        """The suggestions that some reviewers took, by default all."""
        parts = [rows for (name, is_shown), rows in self.taken.items() if is_shown == shown]
        if reviewers:
            parts = [self.taken.get((name, shown), []) for name in reviewers]
        rows, taken = sum(map(len, parts)), sum(map(sum, parts))
        low, high = wilson(taken, rows)
        return {"rows": rows, "taken": taken, "share": taken / rows if rows else None, "low": low, "high": high}


def observe(queues: Sequence[QueueTable], history: ReviewHistory) -> Observations:
    """Compare the reviews of the rows of queues with the suggestions, and with the right verdicts of gold rows.

    Only reviews that name their queue count, and of one reviewer the last one on each row of a queue.

    Args:
        queues: Outlines of the queues of the run.
        history: The reviews of the run.
    """
    observations = Observations()
    by_queue = _by_queue(history)
    for queue in queues:
        last = by_queue.get(str(queue.head["name"]))
        if last is None:
            continue
        suggested, gold = _suggested(queue), _gold(queue)
        verdicts = history.verdicts_of(queue.head["epoch"])
        for (reviewer, key), review in last.items():
            shown = review.get("suggestion")
            if shown is not None and review["verdict"] in ("ok", "wrong") and key in suggested:
                is_taken = review["verdict"] == "wrong" and review["label"] == suggested[key]
                observations.taken[reviewer, shown].append(is_taken)
            if key in gold and review["verdict"] != "unsure":
                standing = verdicts.get(key)
                if standing is not None and standing.adjudicated is not None:
                    observations.gold[reviewer].append(_is_hit(review, standing))
    return observations


def _by_queue(history: ReviewHistory) -> dict[str, LastReviews]:
    """The last reviews by queue; adjudications are left out."""
    found: defaultdict[str, LastReviews] = defaultdict(dict)
    for review in history.reviews:
        if review["queue"] is not None and not review.get("adjudicated"):
            place = review["reviewer"], UnitKey.of(review)
            if review["verdict"] is None:
                found[review["queue"]].pop(place, None)
            else:
                found[review["queue"]][place] = review
    return found


def _suggested(queue: QueueTable) -> dict[UnitKey, int]:
    """The suggested class of each row with a suggestion."""
    labels: list[int | None] = queue.rows["suggested"].to_pylist()
    return {key: label for key, label in zip(queue.unit_keys(), labels, strict=True) if label is not None}


def _gold(queue: QueueTable) -> set[UnitKey]:
    """The gold rows of a queue."""
    if "gold" not in queue.rows.column_names or not pc.any(queue.rows["gold"]).as_py():
        return set()
    is_gold = queue.rows["gold"].to_pylist()
    return {key for key, gold in zip(queue.unit_keys(), is_gold, strict=True) if gold}


def _is_hit(review: Review, standing: Standing) -> bool:
    """True if a review agrees with an adjudication: the same verdict, and the same label if both name one."""
    labels = {review["label"], standing.label} - {None}
    return review["verdict"] == standing.verdict and len(labels) <= 1
