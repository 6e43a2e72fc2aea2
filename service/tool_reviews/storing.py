"""Stores the annotations of labelling tools as reviews."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.last_rows import last_rows
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.store import RunStore
from service.schema.faults import fault
from service.schema.replies.exports import AnnotationsReply
from service.schema.replies.reviews import MAX_FILE_REVIEWS, ReviewSource, StoredReview
from service.tool_reviews.annotation import MAX_ANNOTATIONS, Annotation, Refusal, ToolEvent
from service.tool_reviews.changes import AnnotationChanges
from service.tool_reviews.verdicts import GivenLabels

MAX_REFUSED = 100
# Given labels take about 40 bytes each.
LABELS_AT_ONCE, SENTENCES_AT_ONCE = 2**18, 200


class StoredEvent(NamedTuple):
    """The result of storing annotations.

    Args:
        num_reviews: Number of reviews that were stored.
        num_unchanged: Number of annotations that were stored before.
        refused: Annotations that cannot become reviews.
        is_empty: True without annotations that could.
    """

    num_reviews: int
    num_unchanged: int
    refused: list[Refusal]
    is_empty: bool


def store_event(store: RunStore, view: View, event: ToolEvent, *, all_or_none: bool = False) -> StoredEvent:
    """Store the reviews that follow from annotations, in one file.

    Args:
        store: Store of the reviews.
        view: The run.
        event: The annotations.
        all_or_none: True to raise if an annotation cannot become a review; else the others are stored.

    Raises:
        InvalidRequestError, UnknownExampleError: All annotations are refused, or one with `all_or_none`, for this
            reason.
    """
    written, refused = _reviews(view, event.annotations)
    refused = [*event.refused, *refused]
    is_empty = not written and not event.deleted
    if refused and (is_empty or all_or_none):
        raise refused[0].error
    num_reviews = num_changed = 0

    def make(history: ReviewHistory) -> list[StoredReview]:
        nonlocal num_reviews, num_changed
        changes = AnnotationChanges(history)
        for source, reviews in written:
            changes.write(source, reviews)
        for deleted in event.deleted:
            changes.delete(deleted)
        added = changes.reviews
        num_reviews, num_changed = len(added), changes.num_annotations
        return added

    if not is_empty:
        store.append_reviews(view.snapshot, make)
    return StoredEvent(num_reviews, len(written) + len(event.deleted) - num_changed, refused, is_empty)


def add_annotations(store: RunStore, view: View, event: ToolEvent) -> AnnotationsReply:
    """Store the annotations of an event, except for those that cannot become reviews; raises as `store_event`."""
    stored = store_event(store, view, event)
    reply: AnnotationsReply = {
        "status": "ignored" if stored.is_empty else "ok",
        "added": stored.num_reviews,
        "num_refused": len(stored.refused),
        "refused": [
            {"annotation": one.annotation, "code": one.kind.code, "detail": one.detail}
            for one in stored.refused[:MAX_REFUSED]
        ],
    }
    if event.hint is not None:
        reply["hint"] = event.hint
    return reply


def _reviews(
    view: View, annotations: Sequence[Annotation]
) -> tuple[list[tuple[ReviewSource, list[StoredReview]]], list[Refusal]]:
    """The reviews of each annotation, and the annotations that have none for a reason."""
    written, refused = list[tuple[ReviewSource, list[StoredReview]]](), list[Refusal]()
    num_reviews = 0
    for part in _parts(view, annotations):
        view.check()
        given = GivenLabels(view, {annotation.id for annotation in part})
        for annotation in part:
            try:
                if num_reviews >= MAX_FILE_REVIEWS:
                    raise fault(InvalidRequestError, f"a request makes at most {MAX_FILE_REVIEWS} reviews")
                reviews = given.reviews(annotation)
            except (InvalidRequestError, UnknownExampleError) as err:
                refused.append(Refusal.of(annotation.name, err))
            else:
                written.append((annotation.source, reviews))
                num_reviews += len(reviews)
    return written, refused


def _parts(view: View, annotations: Sequence[Annotation]) -> Iterator[Sequence[Annotation]]:
    """The annotations in parts whose given labels fit into memory; those of unknown examples are in the first one."""
    if not view.is_structured:
        yield annotations
        return
    known, at_once = last_rows(view, {annotation.id for annotation in annotations}, ()), _examples_at_once(view)
    part, ids = [annotation for annotation in annotations if annotation.id not in known], set[str]()
    for annotation in annotations:
        if annotation.id not in known:
            continue
        if annotation.id not in ids and len(ids) == at_once:
            yield part
            part, ids = [], set()
        part.append(annotation)
        ids.add(annotation.id)
    yield part


def _examples_at_once(view: View) -> int:
    """Structured examples whose given labels are in memory at once."""
    match view.snapshot.description.task:
        case "multi_label":
            return max(1, LABELS_AT_ONCE // max(1, view.snapshot.num_classes or 0))
        case "tokens":
            return SENTENCES_AT_ONCE
        case _:
            return MAX_ANNOTATIONS
