"""Verdicts of reviewers on gold rows, and their use of the model's suggestions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.mining.key_index import ABSENT
from service.mining.progress import wilson
from service.mining.queue_table import GOLD, QueueTable
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
    marks = {str(queue.head["name"]): queue.marks(GOLD) for queue in queues}
    by_queue = _by_queue(history, {name for name, gold in marks.items() if gold is not None})
    for queue in queues:
        name = str(queue.head["name"])
        last, gold = by_queue.get(name, {}), marks[name]
        places = queue.index.find([key for _, key in last]).tolist()
        suggested = queue.rows["suggested"].combine_chunks()
        verdicts = history.verdicts_of(queue.head["epoch"])
        for ((reviewer, key), review), row in zip(last.items(), places, strict=True):
            if row == ABSENT:
                continue
            shown, label = review.get("suggestion"), suggested[row].as_py()
            if shown is not None and label is not None and review["verdict"] in ("ok", "wrong"):
                is_taken = review["verdict"] == "wrong" and review["label"] == label
                observations.taken[reviewer, shown].append(is_taken)
            if gold is not None and gold[row] and review["verdict"] != "unsure":
                standing = verdicts.get(key)
                if standing is not None and standing.adjudicated is not None:
                    observations.gold[reviewer].append(_is_hit(review, standing))
    return observations


def _by_queue(history: ReviewHistory, with_gold: Collection[str]) -> dict[str, LastReviews]:
    """The last reviews by queue: those of queues with gold rows, and those whose reviewer saw the suggestion or did not
    see it. Adjudications are left out."""
    found: defaultdict[str, LastReviews] = defaultdict(dict)
    for review in history.reviews:
        queue = review["queue"]
        matters = "suggestion" in review or review["verdict"] is None or queue in with_gold
        if queue is None or review.get("adjudicated") or not matters:
            continue
        place = review["reviewer"], UnitKey.of(review)
        if review["verdict"] is None:
            found[queue].pop(place, None)
        else:
            found[queue][place] = review
    return found


def _is_hit(review: Review, standing: Standing) -> bool:
    """True if a review agrees with an adjudication: the same verdict, and the same label if both name one."""
    labels = {review["label"], standing.label} - {None}
    return review["verdict"] == standing.verdict and len(labels) <= 1
