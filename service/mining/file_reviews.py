"""Reviews in the rows of a file: stores those that change something, all or none.

A file may come back twice, and an exported file has verdicts that nobody has touched since. Such rows are no reviews: a
row counts if its verdict, label or comment differs from what its reviewer said last, and from what the export wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from service.errors import InvalidRequestError, LossServiceError, UnknownExampleError, UnknownQueueError
from service.mining.queues import outlines, queue
from service.mining.review_units import RequestedUnit
from service.mining.reviews import Comment, QueueText, RequestedLabel, Reviewer, resolved
from service.mining.visibility import seen_rows
from service.queries.view import View
from service.runs.review_history import Place, ReviewHistory, Standing, place_of
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.faults import fault
from service.schema.people import Principal
from service.schema.replies.fields import CurrentVerdict, Verdict
from service.schema.replies.reviews import StoredReview

CHANGED = "; spreadsheets change ids such as 007 and 1e5"


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class RowReview:
    """The review in a row of a file; see `ReviewRequest` for the members that it shares.

    Args:
        row: Number of the row, from 0.
        seen: Id of the last review that the exported verdict of the row follows from; None if the row was exported
            without a verdict, or not exported.
    """

    row: int
    id: str
    verdict: Verdict
    unit: RequestedUnit | None = None
    label: RequestedLabel | None = None
    reviewer: Reviewer | None = None
    queue: QueueText | None = None
    comment: Comment | None = None
    adjudicate: bool = False
    seen: str | None = None


class FileReviews(NamedTuple):
    """The reviews of a file.

    Args:
        reviews: In the order of the rows; without those that have their exported verdict.
        num_untouched: Number of rows, examples or units, that have their exported verdict.
        left_out: Number of rows without a verdict, or with the verdict `conflict`.
    """

    reviews: Sequence[RowReview]
    num_untouched: int
    left_out: int


class StoredFile(NamedTuple):
    """Numbers of the rows of a file.

    Args:
        added: Reviews that were stored.
        unchanged: Reviews that would change nothing, and rows with their exported verdict.
        left_out: Rows without a verdict, or with the verdict `conflict`.
    """

    added: int
    unchanged: int
    left_out: int


# The example or unit of a review, and the reviewer.
ReviewedBy = tuple[Place, str | None]


def add_file_reviews(
    store: RunStore, view: View, file: FileReviews, who: Principal, queue_name: str | None = None
) -> StoredFile:
    """Store the reviews of a file that change something, all or none. Of several by one reviewer the last counts.

    Args:
        store: Store of the reviews.
        view: The run.
        file: The reviews.
        who: The caller.
        queue_name: Queue that has the rows that name no other one.

    Raises:
        InvalidRequestError: The label of a row is not a class of the run, its example does not have its unit, or the
            queue does not have it; names row and column.
        UnknownExampleError: The run does not have the example of a row.
        ForbiddenError: A review adjudicates, and the caller is not an owner.
    """
    if queue_name is not None:
        _check_queue(store, view, queue_name, file.reviews)
    try:
        reviews = resolved(store, view, file.reviews, who)
    except LossServiceError as err:
        _fail_at_row(err, file.reviews)
    queues = outlines(store, view.snapshot, {review["queue"] for review in reviews})
    last = {(place_of(review), review["reviewer"]): number for number, review in enumerate(reviews)}
    added = 0

    def make(history: ReviewHistory) -> list[StoredReview]:
        nonlocal added
        exported = _exported(history, last, file.reviews)
        new = [
            reviews[number]
            for (place, _), number in last.items()
            if _changes(reviews[number], exported.get(place), history.standing(*place))
        ]
        added = len(new)
        for number, row in seen_rows(queues, history, new, who).items():
            if not new[number].get("adjudicated"):
                new[number]["suggestion"] = row.suggestion
        return new

    store.append_reviews(view.snapshot, make)
    return StoredFile(added, len(reviews) - added + file.num_untouched, file.left_out)


def is_untouched(row: RowReview, history: ReviewHistory) -> bool:
    """True if a row has the verdict that was exported, and the example or unit has the same reviews now."""
    if row.seen is None:
        return False
    key = UnitKey.of({"id": row.id, "unit": row.unit})
    standings = (of_epoch.get(key) for of_epoch in history.standings.values())
    exported = next((standing for standing in standings if standing and standing.last == row.seen), None)
    if exported is None:
        return False
    return _same((row.verdict, row.label, row.comment), (exported.verdict, exported.label, exported.comment))


def _exported(
    history: ReviewHistory, last: Mapping[ReviewedBy, int], rows: Sequence[RowReview]
) -> Mapping[Place, Standing]:
    """The standings whose verdicts the export has written, of rows that were exported with a verdict."""
    ids = {place: seen for (place, _), number in last.items() if (seen := rows[number].seen) is not None}
    return history.standings_after(ids)


def _changes(review: StoredReview, exported: Standing | None, now: Standing | None) -> bool:
    """True if a review differs from the last one of its reviewer, and from the verdict that was exported."""
    said = (review["verdict"], review["label"], review["comment"])
    if exported is not None and _same(said, (exported.verdict, exported.label, exported.comment)):
        return False
    if now is None:
        return True
    own = now.adjudicated if review.get("adjudicated") else now.of_reviewer(review["reviewer"])
    return own is None or not _same(said, (own["verdict"], own["label"], own["comment"]))


# Verdict, label and comment.
Said = tuple[CurrentVerdict | None, int | str | None, str | None]


def _same(review: Said, other: Said) -> bool:
    """True if a review says the same as another one; without a comment it says nothing about that."""
    return review[:2] == other[:2] and review[2] in (None, other[2])


def _check_queue(store: RunStore, view: View, name: str, rows: Sequence[RowReview]) -> None:
    """Check that a queue has the rows, which may be other examples or units of the run: a spreadsheet makes 7 of 007,
    and the run may have both.

    Raises:
        InvalidRequestError: A row is not in the queue.
    """
    try:
        stored = queue(store, view.snapshot, name)
    except UnknownQueueError:
        return
    keys, ids = {*stored.unit_keys()}, {*stored.ids}
    for row in rows:
        key = UnitKey.of({"id": row.id, "unit": row.unit})
        if row.queue != name or key in keys:
            continue
        column, has = ("unit", f"no unit {key.unit} of example") if key.id in ids else ("id", "no example")
        hint = "" if key.id in ids else CHANGED
        raise _row_fault(InvalidRequestError, f"queue {name} has {has} {key.id[:100]!r}{hint}", row.row, column)


def _row_fault(kind: type[LossServiceError], msg: str, row: int, column: str) -> LossServiceError:
    """The error of a row of a file."""
    return fault(kind, msg, row, column, detail=f"row {row}, column {column!r}: {msg}")


def _fail_at_row(err: LossServiceError, rows: Sequence[RowReview]) -> NoReturn:
    """Raise an error about one of the reviews as that of its row; raise other errors unchanged."""
    loc = err.errors[0]["loc"] if err.errors else []
    if not loc or not isinstance(loc[0], int):
        raise err
    hint = CHANGED if isinstance(err, UnknownExampleError) else ""
    raise _row_fault(type(err), err.errors[0]["msg"] + hint, rows[loc[0]].row, str(loc[-1])) from err
