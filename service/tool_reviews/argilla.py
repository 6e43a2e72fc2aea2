"""Annotations of Argilla, which it calls responses, from the events of its webhooks.

Argilla sends the events of all data sets. A record is of the run if the export's `run` is in its metadata, or if its
data set is the one that the address of the webhook names.

Source: argilla-server 2.8 webhooks/v1/{schemas,responses,records}.py, enums.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.errors import InvalidRequestError
from service.schema.faults import fault
from service.tool_reviews.annotation import (
    MAX_NAME,
    MAX_TEXT,
    Annotation,
    DeletedAnnotation,
    MarkedSpan,
    Refusal,
    Suggestion,
    ToolEvent,
    chosen_verdict,
    updated_at,
)
from service.tool_reviews.json_parts import Object, json_number, json_object, json_objects

TOOL = "argilla"
WRITTEN, DELETED = ("response.created", "response.updated"), "response.deleted"
VERDICT_QUESTION, COMMENT_QUESTION, LABEL_QUESTION = "verdict", "comment", "label"


def read_event(event: object, run: str, dataset: str | None = None) -> ToolEvent:
    """Read the body of a webhook request; events about other things than responses have no annotations.

    Args:
        event: Decoded JSON.
        run: Name of the run.
        dataset: Name of the data set of the run; None if its records name the run.

    Raises:
        InvalidRequestError: The body is no object with a type.
    """
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str):
        raise fault(InvalidRequestError, "the body is no object with a type", "type")
    response = json_object(event.get("data"))
    if kind == DELETED:
        return ToolEvent(deleted=(DeletedAnnotation(TOOL, id=str(response.get("id"))[:MAX_NAME]),))
    if kind not in WRITTEN:
        return ToolEvent(hint=f"the type {kind[:100]!r} changes no response")
    try:
        return ToolEvent((_annotation(response, run, dataset),))
    except InvalidRequestError as err:
        return ToolEvent(refused=(Refusal.of(str(response.get("id")), err),))


def _annotation(response: Object, run: str, dataset: str | None) -> Annotation:
    """Read a response.

    Raises:
        InvalidRequestError: It is of another run or data set, or has members of other types than Argilla's.
    """
    record = json_object(response.get("record"))
    metadata = json_object(record.get("metadata"))
    _check_run(metadata.get("run"), json_object(record.get("dataset")).get("name"), run, dataset)
    if not isinstance(identity := record.get("external_id"), str):
        raise fault(InvalidRequestError, "the record has no external_id", "data", "record", "external_id")
    # A draft says nothing yet.
    submitted = json_object(response.get("values")) if response.get("status") == "submitted" else {}
    values = {name: json_object(value).get("value") for name, value in submitted.items()}
    verdict, comment = values.pop(VERDICT_QUESTION, None), values.pop(COMMENT_QUESTION, None)
    answer = _answer(values)
    user = json_object(response.get("user")).get("username")
    return Annotation(
        source={
            "tool": "argilla",
            "id": str(response.get("id"))[:MAX_NAME],
            "updated_at": updated_at([response.get("updated_at"), response.get("inserted_at")]),
        },
        id=identity,
        reviewer=f"{TOOL}:{user}"[:MAX_NAME] if isinstance(user, str) else None,
        queue=queue if isinstance(queue := metadata.get("queue"), str) else None,
        suggestion=_suggestion(metadata),
        skipped=response.get("status") == "discarded",
        verdict=chosen_verdict(verdict) if isinstance(verdict, str) else None,
        comment=comment[:MAX_TEXT] or None if isinstance(comment, str) else None,
        labels=_labels(answer),
        spans=_spans(answer),
    )


def _suggestion(metadata: Object) -> Suggestion | None:
    """Tell if the person saw the suggestion of the model; None if the data set does not keep that."""
    if metadata.get("suggestion") == "hidden":
        return "hidden"
    return "shown" if metadata.get("suggested_label") else None


def _check_run(named: object, dataset: object, run: str, expected: str | None) -> None:
    if named is not None and named != run:
        raise fault(InvalidRequestError, f"the record is of run {str(named)[:100]!r}", "data", "record", "metadata")
    if expected is not None and dataset != expected:
        msg = f"the record is of data set {str(dataset)[:100]!r}"
        raise fault(InvalidRequestError, msg, "data", "record", "dataset")
    if named is None and expected is None:
        msg = "the record does not say of which run it is: keep the metadata property run, or add ?dataset=NAME"
        raise fault(InvalidRequestError, msg, "data", "record", "metadata")


def _answer(values: Mapping[str, object]) -> object:
    """The answer to the question of the label: that of its name, or of the only question.

    Raises:
        InvalidRequestError: There are several other questions.
    """
    if LABEL_QUESTION in values or len(values) < 2:
        return values.get(LABEL_QUESTION, next(iter(values.values()), None))
    msg = f"there are answers to {', '.join(values)[:200]}: name the question of the label {LABEL_QUESTION!r}"
    raise fault(InvalidRequestError, msg, "data", "values")


def _labels(answer: object) -> tuple[str, ...] | None:
    """The labels of a label question or of one with several labels; None for other questions."""
    if isinstance(answer, str):
        return (answer,)
    if isinstance(answer, list) and all(isinstance(label, str) for label in answer):
        return tuple(answer)
    return None


def _spans(answer: object) -> frozenset[MarkedSpan] | None:
    """The spans of a span question; None without any."""
    spans = set()
    for span in json_objects(answer):
        start, stop = json_number(span.get("start")), json_number(span.get("end"))
        if start is not None and stop is not None:
            spans.add(MarkedSpan(start, stop, str(span.get("label"))))
    return frozenset(spans) or None
