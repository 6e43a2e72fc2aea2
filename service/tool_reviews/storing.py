"""Stores the annotations of labelling tools as reviews."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.store import RunStore
from service.schema.replies.exports import AnnotationsReply
from service.schema.replies.reviews import ReviewSource, StoredReview
from service.tool_reviews.annotation import Annotation, Refusal, ToolEvent
from service.tool_reviews.changes import AnnotationChanges
from service.tool_reviews.verdicts import GivenLabels

MAX_REFUSED = 100


def add_annotations(store: RunStore, view: View, event: ToolEvent) -> AnnotationsReply:
    """Store the reviews that follow from annotations, in one file.

    Annotations that cannot become reviews are refused; the others are stored.

    Args:
        store: Store of the reviews.
        view: The run.
        event: The annotations.

    Raises:
        InvalidRequestError, UnknownExampleError: All annotations are refused, for this reason.
    """
    written, refused = _reviews(view, event.annotations)
    refused = [*event.refused, *refused]
    if refused and not written and not event.deleted:
        raise refused[0].error
    added: list[StoredReview] = []

    def make(history: ReviewHistory) -> list[StoredReview]:
        changes = AnnotationChanges(history)
        for source, reviews in written:
            changes.write(source, reviews)
        for deleted in event.deleted:
            changes.delete(deleted)
        added.extend(changes.reviews)
        return changes.reviews

    if written or event.deleted:
        store.append_reviews(view.snapshot, make)
    reply: AnnotationsReply = {
        "status": "ok" if written or event.deleted else "ignored",
        "added": len(added),
        "num_refused": len(refused),
        "refused": [
            {"annotation": one.annotation, "code": one.error.code, "detail": one.error.detail}
            for one in refused[:MAX_REFUSED]
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
    given = GivenLabels(view, annotations)
    for annotation in annotations:
        try:
            written.append((annotation.source, given.reviews(annotation)))
        except (InvalidRequestError, UnknownExampleError) as err:
            refused.append(Refusal(annotation.name, err))
    return written, refused
