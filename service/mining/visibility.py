"""The parts of a queue that a caller may see: in a blind queue no verdict of others before the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from service.mining.key_index import ABSENT
from service.mining.queue_table import GOLD, WITHOUT_SUGGESTION, QueueTable
from service.mining.queues import outlines
from service.mining.row_states import Booleans, RowStates
from service.runs.review_history import ReviewHistory, Standing
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.people import Principal
from service.schema.replies.queues import RowReview
from service.schema.replies.reviews import Review, StoredReview


@dataclass(frozen=True)
class SeenRow:
    """The reviews of a row of a queue that a caller may see.

    Args:
        standing: The standing that follows from them; None if there are none.
        last: The last review, which may withdraw a verdict; None if there is none.
        done: True if the row needs no further reviewer.
        suggestion: Visibility of the class that the model suggests.
    """

    standing: Standing | None
    last: Review | None
    done: bool
    suggestion: Literal["shown", "hidden"]

    @property
    def reviews(self) -> list[RowReview]:
        """The reviews that count, the adjudicated one last."""
        if self.standing is None:
            return []
        adjudicated = self.standing.adjudicated
        reviews = self.standing.reviews if adjudicated is None else (*self.standing.reviews, adjudicated)
        return [
            cast(RowReview, {name: review.get(name, False) for name in RowReview.__annotations__}) for review in reviews
        ]


@dataclass(frozen=True)
class QueueOf:
    """A queue as a caller sees it.

    Args:
        queue: The queue, or its outline.
        history: The reviews of the run.
        who: The caller. Reviewers without a name are one person.
    """

    queue: QueueTable
    history: ReviewHistory
    who: Principal

    @cached_property
    def states(self) -> RowStates:
        """The verdicts on all rows."""
        return self.queue.tracker.at(self.history)

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """For each row the place in `WORDS` of the verdict that the caller may see."""
        if not self.queue.is_blind:
            return self.states.codes
        visible = self.states.is_judged_by(self.who.name)
        if self.who.has("owner"):
            visible |= self.states.is_done(self.queue.overlap)
        return np.where(visible, self.states.codes, np.uint8(0))

    @cached_property
    def without_suggestion(self) -> Booleans | None:
        """True for the rows whose suggestion is hidden from the caller; None if there are none."""
        return None if self._marks is None else self._marks & ~self.states.is_judged_by(self.who.name)

    @cached_property
    def _done(self) -> Booleans:
        return self.states.is_done(self.queue.overlap)

    @cached_property
    def _marks(self) -> Booleans | None:
        return self.queue.marks(WITHOUT_SUGGESTION)

    def row(self, row: int, key: UnitKey, who: Principal | None = None) -> SeenRow:
        """The reviews of a row.

        Args:
            row: Rank of the row minus 1.
            key: Key of the row.
            who: Another caller.
        """
        who = who or self.who
        standing = self.history.verdicts_of(self.queue.head["epoch"]).get(key)
        standing = self.queue.tracker.standing(row, standing)
        has_own = standing is not None and standing.of_reviewer(who.name) is not None
        done = bool(self._done[row])
        is_hidden = self._marks is not None and bool(self._marks[row]) and not has_own
        suggestion: Literal["shown", "hidden"] = "hidden" if is_hidden else "shown"
        if self.queue.is_blind and not has_own and not (done and who.has("owner")):
            return SeenRow(None, None, done, suggestion)
        return SeenRow(standing, self._last(row, key), done, suggestion)

    def _last(self, row: int, key: UnitKey) -> Review | None:
        """The last review of a row by anyone."""
        epoch = self.queue.head["epoch"]
        last = self.history.last_review(key, epoch) or self.history.last_review(key)
        return last if last is not None and self.queue.tracker.counts(row, last) else None


def seen_rows(
    queues: Sequence[QueueTable], history: ReviewHistory, reviews: Sequence[StoredReview], who: Principal
) -> dict[int, SeenRow]:
    """The rows that reviews name, as their reviewers see them; by the number of the review.

    Args:
        queues: Outlines of the queues that the reviews name; other reviews are left out.
        history: The reviews of the run so far.
        reviews: Further reviews.
        who: The caller, who may name several reviewers.
    """
    found: dict[int, SeenRow] = {}
    for queue in queues:
        numbers = [number for number, review in enumerate(reviews) if review["queue"] == queue.head["name"]]
        keys = [UnitKey.of(reviews[number]) for number in numbers]
        seen = QueueOf(queue, history, who)
        for number, key, row in zip(numbers, keys, queue.index.find(keys).tolist(), strict=True):
            if row != ABSENT:
                found[number] = seen.row(row, key, who._replace(name=reviews[number]["reviewer"]))
    return found


def seen_history(store: RunStore, snapshot: Snapshot, who: Principal) -> ReviewHistory:
    """The reviews of a run that a caller may see outside of its queues: an owner all of them.

    Others do not see the reviews of rows of blind queues, and of gold rows, before they have judged these rows.
    """
    history = store.reviews(snapshot)
    if who.has("owner"):
        return history
    hidden = np.zeros(history.size, np.bool_)
    for queue in outlines(store, snapshot):
        if queue.is_blind or queue.marks(GOLD) is not None:
            hidden |= _is_hidden(queue, history, who)
    return history.without(hidden.tolist()) if hidden.any() else history


def _is_hidden(queue: QueueTable, history: ReviewHistory, who: Principal) -> Booleans:
    """For each review of a run True if it is hidden from a caller who has not judged its row."""
    states, gold = queue.tracker.at(history), queue.marks(GOLD)
    hidden = ~states.is_judged_by(who.name)
    if not queue.is_blind and gold is not None:
        hidden &= gold
    rows = states.reviewed[: history.size]
    return (rows != ABSENT) & hidden[rows] if len(hidden) else np.zeros(len(rows), np.bool_)
