"""Reviews in requests: validates them against the run and stores them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.view import View
from service.runs.run_classes import RunClasses
from service.runs.store import RunStore
from service.schema.faults import fault, validation_fault
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import MAX_REVIEWS, Review


class ReviewRequest(BaseModel):
    """A reviewer's verdict on the label of an example, as a client sends it.

    Args:
        id: Id of the example; an integer stands for its decimal text.
        verdict: `ok`, `wrong`, `unsure`; null withdraws the previous verdict.
        label: The right class, by number or name, if the reviewer knows it.
        reviewer: Name of the reviewer.
        queue: Queue that the reviewer worked through.
        comment: Any further text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str | int, Field(union_mode="left_to_right")]
    verdict: Verdict | None
    label: Annotated[int, Field(ge=0)] | str | None = None
    reviewer: Annotated[str, Field(max_length=200)] | None = None
    queue: Annotated[str, Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None


_REQUESTS = TypeAdapter(Annotated[list[ReviewRequest], Field(max_length=MAX_REVIEWS)])


def add_reviews(store: RunStore, view: View, value: object) -> int:
    """Store reviews, all or none, and return their number.

    Args:
        store: Store of the reviews.
        view: The run.
        value: Decoded JSON: a list of `ReviewRequest`.

    Raises:
        InvalidRequestError: An item is not a review, or its label is not a class of the run.
        UnknownExampleError: The run does not have an example; the error names the first of these.
    """
    try:
        requests = _REQUESTS.validate_python(value)
    except ValidationError as err:
        raise validation_fault(InvalidRequestError, err) from err
    ids = sorted({str(request.id) for request in requests})
    sql = f"SELECT DISTINCT id FROM {view.every_row()} WHERE id IN (SELECT unnest(?::VARCHAR[]))"
    stored_ids = {row["id"] for row in view.rows(sql, [ids])}
    now = datetime.now(UTC).isoformat()
    reviews, classes = list[Review](), RunClasses(view.snapshot)
    for number, request in enumerate(requests):
        identity = str(request.id)
        if identity not in stored_ids:
            msg = f"run {view.snapshot.name} has no example {identity[:100]!r}"
            raise fault(UnknownExampleError, msg, number, "id")
        reviews.append(
            {
                "id": identity,
                "verdict": request.verdict,
                "label": _label(classes, view.snapshot.num_classes or 0, number, request.label),
                "reviewer": request.reviewer,
                "queue": request.queue,
                "comment": request.comment,
                "at": now,
            }
        )
    if reviews:
        store.add_reviews(view.snapshot, reviews)
    return len(reviews)


def _label(classes: RunClasses, num_classes: int, number: int, label: int | str | None) -> int | None:
    """The class of a label, which may be a class name."""
    if label is None:
        return None
    try:
        found = classes.find(label)
    except ValueError as err:
        raise _label_fault(number, str(err)) from err
    if found >= num_classes:
        raise _label_fault(number, f"class {found} is outside [0, {num_classes})")
    return found


def _label_fault(number: int, msg: str) -> InvalidRequestError:
    return fault(InvalidRequestError, msg, number, "label", detail=f"review {number}: {msg}")
