"""What Label Studio sends, as annotations."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidRequestError
from service.tool_reviews.annotation import DeletedAnnotation
from service.tool_reviews.label_studio import NO_PAYLOAD, read_event, read_export
from tests.tool_reviews.events import RECORDED, choice, deletion_of, event_of


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("ANNOTATION_CREATED", {"id": "m-56", "labels": ("news",), "suggestion": "shown", "queue": "all"}),
        ("ANNOTATION_CREATED.manual", {"id": "m-14", "labels": ("ham",), "suggestion": "shown", "skipped": False}),
        ("ANNOTATION_CREATED.skipped", {"id": "m-13", "labels": None, "skipped": True}),
        ("ANNOTATION_CREATED.empty", {"id": "m-0", "labels": None, "skipped": False}),
        ("ANNOTATION_UPDATED", {"id": "m-14", "labels": ("news",), "reviewer": "label-studio:1"}),
        ("ANNOTATION_UPDATED.unskipped", {"id": "m-5", "labels": ("ham",), "skipped": False}),
    ],
)
def test_a_recorded_event_has_one_annotation(name: str, members: dict[str, Any]) -> None:
    (annotation,) = read_event(RECORDED[name], "mail").annotations
    assert {member: getattr(annotation, member) for member in members} == members
    assert annotation.source["id"] == RECORDED[name]["annotation"]["unique_id"]


@pytest.mark.parametrize(
    ("data", "annotation", "project", "suggestion"),
    [
        ({"suggested_label": "spam"}, {}, {}, "shown"),
        ({"suggested_label": "spam"}, {}, {"show_collab_predictions": False}, None),
        ({"suggested_label": "spam"}, {"parent_prediction": 4}, {"show_collab_predictions": False}, "shown"),
        ({}, {"prediction": {"result": [choice("spam")]}}, {"show_collab_predictions": True}, "shown"),
        ({}, {"prediction": {}}, {}, None),
        ({}, {"result": [choice("ham", origin="prediction-changed")]}, {}, "shown"),
        ({"suggestion": "hidden"}, {"parent_prediction": None}, {}, "hidden"),
    ],
)
def test_the_suggestion_is_shown_if_the_project_shows_it(
    data: dict[str, Any], annotation: dict[str, Any], project: dict[str, Any], suggestion: str | None
) -> None:
    event = event_of("a", [choice("ham")])
    event["annotation"] |= annotation
    event["task"]["data"] |= data
    event["project"] |= project
    (read,) = read_event(event, "mail").annotations
    assert read.suggestion == suggestion


def test_annotations_of_a_list_find_their_tasks_by_number() -> None:
    event = RECORDED["ANNOTATIONS_CREATED"]
    turned = {**event, "task": event["task"][::-1]}
    assert [one.id for one in read_event(turned, "mail").annotations] == ["m-8", "m-9"]


def test_a_deletion_names_project_and_annotation() -> None:
    event = read_event(RECORDED["ANNOTATIONS_DELETED"], "mail")
    assert event.deleted == (DeletedAnnotation("label-studio", project=1, annotation=4),)
    assert len(read_event(deletion_of(4, 5), "mail").deleted) == 2


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        (RECORDED["NO_PAYLOAD"], NO_PAYLOAD),
        ({"action": "ANNOTATIONS_DELETED"}, NO_PAYLOAD),
        (RECORDED["TASKS_CREATED"], "the action 'TASKS_CREATED' changes no annotation"),
        (RECORDED["TASKS_DELETED"], "the action 'TASKS_DELETED' changes no annotation"),
    ],
)
def test_an_event_without_annotations_has_a_hint(event: dict[str, Any], hint: str) -> None:
    read = read_event(event, "mail")
    assert (read.hint, read.annotations, read.deleted) == (hint, (), ())


@pytest.mark.parametrize("body", [None, [], {}, {"action": 5}, "text"])
def test_a_body_without_an_action_is_an_error(body: object) -> None:
    with pytest.raises(InvalidRequestError, match="no object with an action"):
        read_event(body, "mail")


def test_an_export_is_in_the_order_of_the_last_changes() -> None:
    read = read_export(RECORDED["export"][::-1], "mail")
    assert [(one.id, one.source["annotation"]) for one in read.annotations] == [
        ("m-56", 1),
        ("m-11", 3),
        ("m-13", 6),
        ("m-56", 9),
    ]


@pytest.mark.parametrize("export", [None, {}, [1], [{"annotations": []}], [{"data": {}}]])
def test_a_file_that_is_no_export_is_an_error(export: object) -> None:
    with pytest.raises(InvalidRequestError, match="no list of tasks with annotations"):
        read_export(export, "mail")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": {"run": "other"}}, "the task is of run 'other'"),
        ({"data": {}}, "no external_id"),
        ({"data": {"text": "x"}}, "no external_id"),
    ],
)
def test_a_task_of_another_run_or_without_an_id_is_refused(changes: dict[str, Any], message: str) -> None:
    event = event_of("a", [choice("ham")])
    event["task"] |= changes
    read = read_event(event, "mail")
    assert read.annotations == ()
    assert message in read.refused[0].detail


def test_ids_of_tasks_are_never_ids_of_examples() -> None:
    event = event_of("a", [choice("ham")])
    event["task"]["data"] = {"id": 7}
    assert [one.id for one in read_event(event, "mail").annotations] == ["7"]
    event["task"]["data"] = {"external_id": "a", "id": 7}
    assert [one.id for one in read_event(event, "mail").annotations] == ["a"]


def test_a_verdict_and_a_comment_have_controls_of_their_own() -> None:
    result = [
        {"from_name": "verdict", "type": "choices", "value": {"choices": ["exclude"]}},
        {"from_name": "comment", "type": "textarea", "value": {"text": ["blurred", "and cut"]}},
        choice("ham"),
    ]
    (annotation,) = read_event(event_of("a", result), "mail").annotations
    assert (annotation.verdict, annotation.comment, annotation.labels) == ("exclude", "blurred\nand cut", ("ham",))
    result[0]["value"] = {"choices": ["perhaps"]}
    (refusal,) = read_event(event_of("a", result), "mail").refused
    assert "'perhaps' is not one of ok, wrong, unsure, exclude" in refusal.detail


def test_of_several_controls_the_one_of_the_label_counts() -> None:
    result = [choice("red", from_name="colour"), choice("ham")]
    (annotation,) = read_event(event_of("a", result), "mail").annotations
    assert annotation.labels == ("ham",)
    (annotation,) = read_event(event_of("a", result[:1]), "mail").annotations
    assert annotation.labels == ("red",)
    (refusal,) = read_event(event_of("a", [result[0], choice("big", from_name="size")]), "mail").refused
    assert "there are choices of colour, size" in refusal.detail


@pytest.mark.parametrize("user", [{"id": 3, "email": "a@example.com"}, 3])
def test_the_reviewer_is_the_number_of_the_user(user: object) -> None:
    (annotation,) = read_event(event_of("a", [], completed_by=user), "mail").annotations
    assert annotation.reviewer == "label-studio:3"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-11-30T00:25:09.72Z", "2026-11-30T00:25:09.720000+00:00"),
        ("2026-11-30T01:25:09+01:00", "2026-11-30T00:25:09.000000+00:00"),
        ("2026-11-30T00:25:09", "2026-11-30T00:25:09.000000+00:00"),
    ],
)
def test_times_are_compared_in_utc(value: str, text: str) -> None:
    (annotation,) = read_event(event_of("a", [], updated_at=value), "mail").annotations
    assert annotation.source["updated_at"] == text
    (refusal,) = read_event(event_of("a", [], updated_at="yesterday"), "mail").refused
    assert "'yesterday' is not a time" in refusal.detail
