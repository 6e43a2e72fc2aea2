"""The judgement of a person on an example, in the terms that all labelling tools share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, cast, get_args

from service.errors import ErrorItem, InvalidRequestError, UnknownExampleError
from service.schema.faults import fault
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import ReviewSource

# Annotations of a request, which take about 2 kB each in memory.
MAX_ANNOTATIONS = 20_000
Suggestion = Literal["shown", "hidden"]
MAX_TEXT = 10_000
MAX_NAME = 200


class MarkedSpan(NamedTuple):
    """Characters with a label, from `start` up to, but not including, `stop`."""

    start: int
    stop: int
    label: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """The judgement of a person on an example.

    Args:
        source: The annotation in the tool.
        id: Id of the example.
        reviewer: Name of the person; None if unknown.
        queue: Queue whose row the tool showed; None if unknown.
        suggestion: If the person saw the suggestion of the model; None if that is unknown.
        skipped: True if the person passed the example.
        verdict: Verdict that the person chose as such.
        comment: Text of the person.
        labels: Chosen labels; None without a choice.
        spans: Spans of characters; None without any.
        num_regions: Number of the regions of a mask.
        units: Units of the example that the tool was to show.
    """

    source: ReviewSource
    id: str
    reviewer: str | None
    queue: str | None = None
    suggestion: Suggestion | None = None
    skipped: bool = False
    verdict: Verdict | None = None
    comment: str | None = None
    labels: tuple[str, ...] | None = None
    spans: frozenset[MarkedSpan] | None = None
    num_regions: int = 0
    units: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name that a user of the tool knows."""
        return str(self.source.get("annotation", self.source["id"]))


@dataclass(frozen=True, slots=True)
class DeletedAnnotation:
    """An annotation that was deleted in the tool.

    Args:
        tool: The tool.
        id: Its id as in `ReviewSource`; None if the tool names it by `project` and `annotation` only.
        project: Number of the project.
        annotation: Number of the annotation.
    """

    tool: str
    id: str | None = None
    project: int | None = None
    annotation: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An annotation that cannot become a review.

    Args:
        annotation: Name of the annotation in the tool.
        kind: Class of the error.
        detail: The reason.
        errors: Places of the error in the request.
    """

    annotation: str
    kind: type[InvalidRequestError | UnknownExampleError]
    detail: str
    errors: tuple[ErrorItem, ...]

    @classmethod
    def of(cls, annotation: str, err: InvalidRequestError | UnknownExampleError) -> Refusal:
        # Without the error itself, whose traceback holds the values of all its frames.
        return cls(annotation[:MAX_NAME], type(err), err.detail, tuple(err.errors))

    @property
    def error(self) -> InvalidRequestError | UnknownExampleError:
        """The error of a request with this annotation."""
        return self.kind(f"annotation {self.annotation}: {self.detail}", errors=[*self.errors])


@dataclass(frozen=True, slots=True)
class ToolEvent:
    """The annotations that an event or a file of a tool names.

    Args:
        annotations: Annotations that were made or changed.
        deleted: Annotations that were deleted.
        refused: Annotations that cannot be read.
        hint: Sentence for the user about an event without annotations.
    """

    annotations: tuple[Annotation, ...] = ()
    deleted: tuple[DeletedAnnotation, ...] = ()
    refused: tuple[Refusal, ...] = ()
    hint: str | None = None


def check_number(number: int) -> None:
    """Raise if a request has too many annotations.

    Raises:
        InvalidRequestError: There are more than `MAX_ANNOTATIONS`.
    """
    if number > MAX_ANNOTATIONS:
        raise fault(InvalidRequestError, f"{number} annotations, the limit of a request is {MAX_ANNOTATIONS}")


def utc_text(time: datetime) -> str:
    """A time in UTC with microseconds: the order of such texts is that of the times."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def updated_at(values: Iterable[object]) -> str:
    """The first of these times that is there, as `utc_text`; the present time if none is.

    Raises:
        InvalidRequestError: It is no ISO 8601 time.
    """
    text = next((value for value in values if value is not None), None)
    if text is None:
        return utc_text(datetime.now(UTC))
    try:
        time = datetime.fromisoformat(str(text))
        # A time without a zone is one of UTC.
        return utc_text(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as err:
        raise fault(InvalidRequestError, f"{str(text)[:100]!r} is not a time", "updated_at") from err


def chosen_verdict(text: str) -> Verdict:
    """The verdict that a person chose by its name.

    Raises:
        InvalidRequestError: There is no such verdict.
    """
    verdicts = get_args(Verdict)
    if text not in verdicts:
        raise fault(InvalidRequestError, f"{text[:100]!r} is not one of {', '.join(verdicts)}", "verdict")
    return cast("Verdict", text)
