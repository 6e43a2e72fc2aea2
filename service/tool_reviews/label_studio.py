"""Annotations of Label Studio, from its webhook events and its JSON export.

Ids are those of `data.external_id`, else of `data.id`: the ids of tasks are Label Studio's own. A project may have two
further controls: choices named `verdict` (ok, wrong, unsure, exclude), and a text area named `comment`.

Source: recorded events and exports of label-studio 1.23.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.errors import InvalidRequestError
from service.exports.label_studio import VERDICT_CONTROL
from service.exports.label_studio_backend import example_ids
from service.schema.faults import fault
from service.schema.replies.reviews import ReviewSource
from service.tool_reviews.annotation import (
    MAX_NAME,
    MAX_TEXT,
    Annotation,
    DeletedAnnotation,
    MarkedSpan,
    Refusal,
    Suggestion,
    ToolEvent,
    check_number,
    chosen_verdict,
    updated_at,
)
from service.tool_reviews.json_parts import Object, json_number, json_object, json_objects

TOOL = "label-studio"
WRITTEN = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")
DELETED = "ANNOTATIONS_DELETED"
COMMENT_CONTROL, LABEL_CONTROL = "comment", "label"
NO_PAYLOAD = "the event names no annotation: switch on 'Send payload' for the webhook in Label Studio"
# Of regions that began as those of a prediction.
ORIGINS = ("prediction", "prediction-changed")
MASK_REGIONS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "bitmasklabels")


def read_event(event: object, run: str) -> ToolEvent:
    """Read the body of a webhook request; events about other things have no annotations.

    Args:
        event: Decoded JSON.
        run: Name of the run; annotations of tasks of other runs are refused.

    Raises:
        InvalidRequestError: The body is no object with an action, or has too many annotations.
    """
    if not isinstance(event, dict) or not isinstance(action := event.get("action"), str):
        raise fault(InvalidRequestError, "the body is no object with an action", "action")
    if action == DELETED:
        project, deleted = (
            json_number(json_object(event.get("project")).get("id")),
            json_objects(event.get("annotations")),
        )
        check_number(len(deleted))
        named = [DeletedAnnotation(TOOL, project=project, annotation=json_number(one.get("id"))) for one in deleted]
        return ToolEvent(deleted=tuple(named), hint=None if named else NO_PAYLOAD)
    if action not in WRITTEN:
        return ToolEvent(hint=f"the action {action[:100]!r} changes no annotation")
    annotations, tasks = json_objects(event.get("annotation")), json_objects(event.get("task"))
    if not annotations:
        return ToolEvent(hint=NO_PAYLOAD)
    check_number(len(annotations))
    # Of several annotations the tasks are in an order of their own.
    tasks_by_id = {task.get("id"): task for task in tasks}
    single = tasks[0] if len(tasks) == len(annotations) == 1 else {}
    return _read(
        ((tasks_by_id.get(one.get("task"), single), one) for one in annotations), json_object(event.get("project")), run
    )


def read_export(tasks: object, run: str) -> ToolEvent:
    """Read a JSON export; the annotations are in the order of their last changes.

    Args:
        tasks: Decoded JSON.
        run: Name of the run; annotations of tasks of other runs are refused.

    Raises:
        InvalidRequestError: The export is no list of tasks with annotations, or has too many.
    """
    if not is_export(tasks):
        raise fault(InvalidRequestError, "the export is no list of tasks with annotations")
    pairs = [(task, one) for task in json_objects(tasks) for one in json_objects(task["annotations"])]
    check_number(len(pairs))
    return _read(pairs, {}, run)


def is_export(value: object) -> bool:
    """True for a list of tasks with annotations, as Label Studio exports it."""
    return isinstance(value, list) and all(
        isinstance(task, dict) and isinstance(task.get("annotations"), list) and isinstance(task.get("data"), dict)
        for task in value
    )


def _read(pairs: Iterable[tuple[Object, Object]], project: Object, run: str) -> ToolEvent:
    read, refused = list[Annotation](), list[Refusal]()
    for task, annotation in pairs:
        try:
            read.append(_annotation(task, annotation, project, run))
        except InvalidRequestError as err:
            refused.append(Refusal.of(str(annotation.get("id")), err))
    # One format of UTC, so that texts are in the order of the times.
    return ToolEvent(tuple(sorted(read, key=lambda one: one.source["updated_at"])), refused=tuple(refused))


def _annotation(task: Object, annotation: Object, project: Object, run: str) -> Annotation:
    """Read an annotation.

    Raises:
        InvalidRequestError: It is of another run, or has members of other types than Label Studio's.
    """
    meta, data = json_object(task.get("meta")), json_object(task.get("data"))
    if (other := meta.get("run")) is not None and other != run:
        raise fault(InvalidRequestError, f"the task is of run {str(other)[:100]!r}", "task", "meta", "run")
    ids = example_ids(task)
    if not ids:
        raise fault(InvalidRequestError, "the task has no external_id", "task", "data", "external_id")
    regions = json_objects(annotation.get("result"))
    labels = [region for region in regions if region.get("from_name") not in (VERDICT_CONTROL, COMMENT_CONTROL)]
    verdict = _texts(regions, VERDICT_CONTROL, "choices")
    return Annotation(
        source=_source(annotation, task),
        id=ids[0],
        reviewer=_reviewer(annotation.get("completed_by")),
        queue=queue if isinstance(queue := meta.get("queue"), str) else None,
        suggestion=_suggestion(annotation, regions, data, project),
        skipped=annotation.get("was_cancelled") is True,
        verdict=chosen_verdict(verdict[0]) if verdict else None,
        comment="\n".join(_texts(regions, COMMENT_CONTROL, "text"))[:MAX_TEXT] or None,
        labels=_choices(labels),
        spans=_spans(labels),
        num_regions=sum(region.get("type") in MASK_REGIONS for region in labels),
        units=tuple(
            unit for one in json_objects(data.get("units")) if (unit := json_number(one.get("unit"))) is not None
        ),
    )


def _source(annotation: Object, task: Object) -> ReviewSource:
    number, project = json_number(annotation.get("id")), json_number(annotation.get("project", task.get("project")))
    # Old versions have no unique ids.
    identity = annotation.get("unique_id") or f"{project}/{number}"
    source: ReviewSource = {
        "tool": "label-studio",
        "id": str(identity)[:MAX_NAME],
        "updated_at": updated_at([annotation.get("updated_at"), annotation.get("created_at")]),
    }
    if number is not None:
        source["annotation"] = number
    if project is not None:
        source["project"] = project
    return source


def _reviewer(user: object) -> str | None:
    """The name of a user, whom Label Studio names by number only."""
    number = json_number(json_object(user).get("id") if isinstance(user, dict) else user)
    return None if number is None else f"{TOOL}:{number}"


def _suggestion(annotation: Object, regions: Sequence[Object], data: Object, project: Object) -> Suggestion | None:
    """Tell if the person saw the suggestion of the model; None if that is unknown."""
    if data.get("suggestion") == "hidden":
        return "hidden"
    origins = {region.get("origin") for region in regions}
    if annotation.get("parent_prediction") is not None or not origins.isdisjoint(ORIGINS):
        return "shown"
    # `prediction` is the suggestion for the task, also of an annotation that was made by hand.
    exists = data.get("suggested_label") or json_object(annotation.get("prediction")).get("result")
    return "shown" if exists and project.get("show_collab_predictions") is not False else None


def _choices(regions: Sequence[Object]) -> tuple[str, ...] | None:
    """The choices of the control of the label; None without any.

    Raises:
        InvalidRequestError: Several controls have choices, and none has the name of the export.
    """
    names = {str(region.get("from_name")) for region in regions if region.get("type") == "choices"}
    if len(names) > 1 and LABEL_CONTROL not in names:
        msg = f"there are choices of {', '.join(sorted(names))[:200]}: name the control of the label {LABEL_CONTROL!r}"
        raise fault(InvalidRequestError, msg, "annotation", "result")
    if not names:
        return None
    return tuple(_texts(regions, LABEL_CONTROL if len(names) > 1 else names.pop(), "choices"))


def _spans(regions: Sequence[Object]) -> frozenset[MarkedSpan] | None:
    """The labelled spans of characters; None without any."""
    spans = set()
    for region in regions:
        value = json_object(region.get("value"))
        start, stop, labels = json_number(value.get("start")), json_number(value.get("end")), value.get("labels")
        if region.get("type") == "labels" and start is not None and stop is not None and isinstance(labels, list):
            spans |= {MarkedSpan(start, stop, str(label)) for label in labels}
    return frozenset(spans) or None


def _texts(regions: Sequence[Object], name: str, member: str) -> list[str]:
    """The texts in the values of the regions of a control."""
    values = [json_object(region.get("value")).get(member) for region in regions if region.get("from_name") == name]
    return [str(text) for value in values for text in (value if isinstance(value, list) else [value]) if text]
