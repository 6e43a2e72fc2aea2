"""The parts of a queue that a caller may see: in a blind queue no verdict of others before the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from service.mining.queue_table import WITHOUT_SUGGESTION, QueueTable
from service.mining.row_states import Booleans, RowStates
from service.runs.review_history import ReviewHistory, Standing
from service.runs.units import UnitKey
from service.schema.people import Principal
from service.schema.replies.queues import RowReview
from service.schema.replies.reviews import Review


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
        marks = self.queue.marks(WITHOUT_SUGGESTION)
        return None if marks is None else marks & ~self.states.is_judged_by(self.who.name)

    def rows(self, indices: Sequence[int], keys: Sequence[UnitKey]) -> list[SeenRow]:
        """The reviews of some rows.

        Args:
            indices: Ranks of the rows minus 1.
            keys: Key of each of the rows.
        """
        verdicts = self.history.verdicts_of(self.queue.head["epoch"])
        done = self.states.is_done(self.queue.overlap)
        return [
            self._row(row, key, self.queue.tracker.standing(row, verdicts.get(key)), bool(done[row]))
            for row, key in zip(indices, keys, strict=True)
        ]

    def _row(self, row: int, key: UnitKey, standing: Standing | None, done: bool) -> SeenRow:
        hides = self.without_suggestion is not None and bool(self.without_suggestion[row])
        suggestion: Literal["shown", "hidden"] = "hidden" if hides else "shown"
        has_own = standing is not None and standing.of_reviewer(self.who.name) is not None
        if self.queue.is_blind and not has_own and not (done and self.who.has("owner")):
            return SeenRow(None, None, done, suggestion)
        epoch = self.queue.head["epoch"]
        last = self.history.last_review(key, epoch) or self.history.last_review(key)
        counts = last is not None and self.queue.tracker.counts(row, last)
        return SeenRow(standing, last if counts else None, done, suggestion)
