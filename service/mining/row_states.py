"""The verdicts on the rows of a queue as arrays, which follow the reviews of the run without a pass over all rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
import numpy.typing as npt

from service.mining.key_index import ABSENT, KeyIndex, Rows
from service.runs.review_history import ReviewHistory, Standing
from service.runs.units import UnitKey
from service.schema.replies.fields import CurrentVerdict
from service.schema.replies.reviews import Review

# The verdict of each code of `RowStates.codes`.
WORDS: tuple[CurrentVerdict | None, ...] = (None, "ok", "wrong", "unsure", "exclude", "conflict")
_CODES = {word: code for code, word in enumerate(WORDS)}
Booleans = npt.NDArray[np.bool_]
NO_ROWS: Rows = np.empty(0, np.int64)
Counts = dict[CurrentVerdict, int]


@dataclass(frozen=True, eq=False)
class RowStates:
    """The verdicts on the rows of a queue at one moment.

    Args:
        codes: For each row the place of its verdict in `WORDS`.
        num_reviewers: For each row the number of reviewers with a verdict.
        settled: For each row True if its verdict is adjudicated.
        judged: Rows on which a reviewer has a verdict, ascending, by reviewer.
        reviewed: The row of each review of the run, in the order of arrival; `ABSENT` for those of other rows.
    """

    codes: npt.NDArray[np.uint8]
    num_reviewers: npt.NDArray[np.uint16]
    settled: Booleans
    judged: Mapping[str | None, Rows] = field(default_factory=dict)
    reviewed: Rows = field(default_factory=lambda: NO_ROWS)

    @classmethod
    def empty(cls, number: int) -> RowStates:
        """The states of rows without reviews."""
        return cls(np.zeros(number, np.uint8), np.zeros(number, np.uint16), np.zeros(number, np.bool_))

    def is_judged_by(self, reviewer: str | None) -> Booleans:
        """True for the rows on which a reviewer has a verdict."""
        mask = np.zeros(len(self.codes), np.bool_)
        mask[self.judged.get(reviewer, NO_ROWS)] = True
        return mask

    def is_done(self, overlap: int) -> Booleans:
        """True for the rows that need no further reviewer."""
        return self.settled | (self.num_reviewers >= overlap)

    def counts(self, rows: Rows | None = None) -> Counts:
        """Number of rows with each verdict, of some rows or of all."""
        return counts_of(self.codes if rows is None else self.codes[rows])


def counts_of(codes: npt.NDArray[np.uint8]) -> Counts:
    """Number of codes of each verdict."""
    numbers = np.bincount(codes, minlength=len(WORDS)).tolist()
    return {word: number for word, number in zip(WORDS, numbers, strict=True) if word is not None}


class StateTracker:
    """Follows the states of the rows of a queue: only rows with new reviews are looked at; safe for many threads.

    Args:
        index: Finds the rows of examples and units.
        epoch: Epoch of the queue.
        gold: True for gold rows; None if there are none.
        since: Creation time of the queue; of gold rows only later reviews count.
    """

    def __init__(self, index: KeyIndex, epoch: int, gold: Booleans | None, since: str) -> None:
        self._index, self._epoch, self._gold, self._since = index, epoch, gold, since
        self._lock = Lock()
        self._states = RowStates.empty(len(index.hashes))
        self._history = ReviewHistory([])

    def at(self, history: ReviewHistory) -> RowStates:
        """The states after the reviews of a history."""
        with self._lock:
            known = self._history
            if not _extends(history, known):
                if _extends(known, history):
                    return self._states
                known, self._states = ReviewHistory([]), RowStates.empty(len(self._index.hashes))
            self._states = self._after(history, history.since(known.size))
            self._history = history
            return self._states

    def is_gold(self, row: int) -> bool:
        """True for a gold row."""
        return self._gold is not None and bool(self._gold[row])

    def counts(self, row: int, review: Review) -> bool:
        """True unless the row is a gold row and the review is older than the queue."""
        return not self.is_gold(row) or review["at"] > self._since

    def standing(self, row: int, standing: Standing | None) -> Standing | None:
        """The standing of a row in its queue: of a gold row it follows from the reviews since it was planted."""
        if standing is None or not self.is_gold(row):
            return standing
        reviews = tuple(review for review in standing.reviews if self.counts(row, review))
        return Standing.of(reviews, None, standing.last)

    def _after(self, history: ReviewHistory, reviews: Sequence[Review]) -> RowStates:
        keys = [UnitKey.of(review) for review in reviews]
        rows = self._index.find(keys)
        states = replace(self._states, reviewed=np.concatenate([self._states.reviewed, rows]))
        touched: dict[int, tuple[UnitKey, set[str | None]]] = {}
        for row, key, review in zip(rows.tolist(), keys, reviews, strict=True):
            if row != ABSENT:
                touched.setdefault(row, (key, set()))[1].add(review["reviewer"])
        return self._touch(states, history, touched) if touched else states

    def _touch(
        self, states: RowStates, history: ReviewHistory, touched: Mapping[int, tuple[UnitKey, set[str | None]]]
    ) -> RowStates:
        """The states after reviews of some rows: the key of each, and the authors of these reviews."""
        codes, numbers, settled = states.codes.copy(), states.num_reviewers.copy(), states.settled.copy()
        verdicts = history.verdicts_of(self._epoch)
        added: defaultdict[str | None, list[int]] = defaultdict(list)
        removed: defaultdict[str | None, list[int]] = defaultdict(list)
        for row, (key, reviewers) in touched.items():
            standing = self.standing(row, verdicts.get(key))
            codes[row] = _CODES[None if standing is None else standing.verdict]
            judges = set() if standing is None else {review["reviewer"] for review in standing.reviews}
            numbers[row] = len(judges)
            settled[row] = standing is not None and standing.adjudicated is not None
            for reviewer in reviewers:
                (added if reviewer in judges else removed)[reviewer].append(row)
        judged = dict(states.judged)
        for reviewer in {*added, *removed}:
            rows = np.union1d(judged.get(reviewer, NO_ROWS), np.array(added[reviewer], np.int64))
            judged[reviewer] = np.setdiff1d(rows, removed[reviewer], assume_unique=True) if removed[reviewer] else rows
        return replace(states, codes=codes, num_reviewers=numbers, settled=settled, judged=judged)


def _extends(history: ReviewHistory, known: ReviewHistory) -> bool:
    """True if a history begins with the reviews of another one."""
    if known.size > history.size:
        return False
    # Another machine may have added reviews before the last ones: then these have other places.
    return not known.size or history.log[known.size - 1]["review"] == known.log[known.size - 1]["review"]
