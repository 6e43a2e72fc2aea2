"""Reviews in requests: validates them against the run and stores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import ForbiddenError, InvalidRequestError, ReviewConflictError, UnknownExampleError
from service.mining.queues import outlines
from service.mining.review_units import FoundUnit, NamedUnit, RequestedUnit, find_units, unit_of_run
from service.mining.visibility import seen_rows
from service.queries.last_rows import last_rows
from service.queries.view import View
from service.runs.review_history import ReviewHistory, place_of
from service.runs.run_classes import RunClasses
from service.runs.store import RunStore
from service.schema.faults import fault, validation_fault
from service.schema.people import MAX_REVIEWER_NAME, Principal
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import MAX_REVIEWS, Review, StoredReview

# Members of a review as clients send them.
RequestedId = Annotated[str | int, Field(union_mode="left_to_right")]
RequestedLabel = Annotated[int, Field(ge=0)] | str
Reviewer = Annotated[str, Field(max_length=MAX_REVIEWER_NAME)]
QueueText = Annotated[str, Field(max_length=100)]
Comment = Annotated[str, Field(max_length=10_000)]


class GivenReview(Protocol):
    """A review of a request or of a row of a file; see `ReviewRequest`."""

    @property
    def id(self) -> str | int: ...
    @property
    def unit(self) -> RequestedUnit | None: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def label(self) -> int | str | None: ...
    @property
    def reviewer(self) -> str | None: ...
    @property
    def queue(self) -> str | None: ...
    @property
    def comment(self) -> str | None: ...
    @property
    def adjudicate(self) -> bool: ...


class ReviewRequest(BaseModel):
    """A reviewer's verdict on the label of an example, as a client sends it.

    Args:
        id: Id of the example; an integer stands for its decimal text.
        unit: Part of a structured example: a label of a `multi_label` run by number or name, a span `[start, stop)` of
            tokens, or the number of a region of a mask; null for the whole example.
        verdict: `ok`, `wrong`, `unsure`, `exclude` (to leave the example out of the data set); null withdraws the
            reviewer's previous verdict.
        label: The right class, by number or name, if the reviewer knows it. Of a label of a `multi_label` run 0 or 1;
            for `wrong` the default is the opposite of its target.
        reviewer: Name of the reviewer; the name of the key, if it has one, overrides it.
        queue: Queue that the reviewer worked through.
        comment: Any further text.
        expected: Id of the last review of the example or unit that the client has seen, null for none; another one is
            an error.
        adjudicate: True to settle what reviewers disagree about; needs the role owner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: RequestedId
    unit: RequestedUnit | None = None
    verdict: Verdict | None
    label: RequestedLabel | None = None
    reviewer: Reviewer | None = None
    queue: QueueText | None = None
    comment: Comment | None = None
    expected: Annotated[str, Field(max_length=100)] | None = None
    adjudicate: bool = False


_REQUESTS = TypeAdapter(Annotated[list[ReviewRequest], Field(max_length=MAX_REVIEWS)])


def add_reviews(store: RunStore, view: View, value: object, who: Principal) -> list[Review]:
    """Store reviews, all or none, and return them with their ids.

    Args:
        store: Store of the reviews.
        view: The run.
        value: Decoded JSON: a list of `ReviewRequest`.
        who: The caller.

    Raises:
        InvalidRequestError: An item is not a review, its label is not a class of the run, or its example does not have
            its unit.
        UnknownExampleError: The run does not have an example; the error names the first of these.
        ReviewConflictError: The last review of an example is another one than `expected`.
        ForbiddenError: A review adjudicates, and the caller is not an owner.
    """
    try:
        requests = _REQUESTS.validate_python(value)
    except ValidationError as err:
        raise validation_fault(InvalidRequestError, err) from err
    reviews = resolved(store, view, requests, who)
    queues = outlines(store, view.snapshot, {review["queue"] for review in reviews})
    size = 0

    def make(history: ReviewHistory) -> list[StoredReview]:
        nonlocal size
        size = history.size
        rows = seen_rows(queues, history, reviews, who)
        for number, (request, review) in enumerate(zip(requests, reviews, strict=True)):
            row = rows.get(number)
            if row is not None and not request.adjudicate:
                review["suggestion"] = row.suggestion
            if "expected" in request.model_fields_set:
                last = history.last_review(*place_of(review)) if row is None else row.last
                _check_expected(last, number, request.expected, review)
        return reviews

    return store.append_reviews(view.snapshot, make).since(size)[: len(reviews)]


def with_defaults(value: object, defaults: Mapping[str, object]) -> object:
    """Decoded reviews that are not yet checked, with members for those that have none of their own."""
    if not defaults or not isinstance(value, list):
        return value
    return [{**defaults, **item} if isinstance(item, dict) else item for item in value]


def resolved(store: RunStore, view: View, requests: Sequence[GivenReview], who: Principal) -> list[StoredReview]:
    """The reviews of requests as they are stored, with numbers of classes and units; nothing is stored.

    Args:
        store: Store of the queues that requests name.
        view: The run.
        requests: The requests.
        who: The caller.

    Raises:
        InvalidRequestError, UnknownExampleError, ForbiddenError: As `add_reviews`.
    """
    for number, request in enumerate(requests):
        if request.adjudicate and not who.has("owner"):
            raise fault(ForbiddenError, "an adjudication needs a key of the role owner", number, "adjudicate")
    epochs = _last_epochs(view, requests)
    found = find_units(store, view, list(_named_units(view, requests)), epochs)
    now, classes = datetime.now(UTC).isoformat(), RunClasses(view.snapshot)
    reviews = [
        _review(request, _label(classes, number, request, found.get(number)), now, who)
        for number, request in enumerate(requests)
    ]
    if view.is_structured:
        for number, review in enumerate(reviews):
            unit = found.get(number)
            review["unit"] = None if unit is None else unit.name
            if unit is not None and unit.epoch is not None:
                review["epoch"] = unit.epoch
    return reviews


def _check_expected(last: Review | None, number: int, expected: str | None, review: StoredReview) -> None:
    if (None if last is None else last["review"]) != expected:
        seen = "none" if expected is None else expected
        now = "none" if last is None else f"{last['review']} by {last['reviewer'] or 'a reviewer without a name'}"
        error = fault(
            ReviewConflictError,
            f"the last review of example {review['id'][:100]!r} is {now}, expected {seen}",
            number,
            "expected",
        )
        error.current = last
        raise error


def _last_epochs(view: View, requests: Sequence[GivenReview]) -> dict[str, int]:
    """Last epoch of each example that the requests name.

    Raises:
        UnknownExampleError: The run does not have an example.
    """
    rows = last_rows(view, {str(request.id) for request in requests}, ())
    epochs = {identity: int(row["epoch"]) for identity, row in rows.items()}
    for number, request in enumerate(requests):
        if str(request.id) not in epochs:
            msg = f"run {view.snapshot.name} has no example {str(request.id)[:100]!r}"
            raise fault(UnknownExampleError, msg, number, "id")
    return epochs


def _named_units(view: View, requests: Sequence[GivenReview]) -> Iterator[NamedUnit]:
    for number, request in enumerate(requests):
        if request.unit is not None:
            unit = unit_of_run(view, number, request.unit)
            yield NamedUnit(number, str(request.id), unit, request.queue)
        elif request.label is not None and view.is_structured:
            raise _label_fault(number, "a whole example of this run has no one class; name a unit")


def _review(request: GivenReview, label: int | None, now: str, who: Principal) -> StoredReview:
    review: StoredReview = {
        "id": str(request.id),
        "verdict": request.verdict,
        "label": label,
        "reviewer": who.name or request.reviewer,
        "queue": request.queue,
        "comment": request.comment,
        "at": now,
    }
    if request.adjudicate:
        review["adjudicated"] = True
    return review


def _label(classes: RunClasses, number: int, request: GivenReview, unit: FoundUnit | None) -> int | None:
    """The class of the label of a review, which may be a class name.

    Args:
        classes: Classes of the run.
        number: Number of the review.
        request: The review.
        unit: The unit of the review; if a label of a multi_label run is wrong, the opposite of its target is right.
    """
    if request.label is None:
        target = unit.target if unit is not None and request.verdict == "wrong" else None
        return None if target is None else 1 - target
    try:
        found = classes.find(request.label)
    except ValueError as err:
        raise _label_fault(number, str(err)) from err
    if found >= classes.number:
        raise _label_fault(number, f"class {found} is outside [0, {classes.number})")
    return found


def _label_fault(number: int, msg: str) -> InvalidRequestError:
    return fault(InvalidRequestError, msg, number, "label", detail=f"review {number}: {msg}")
