"""A run as an ML backend: rows by the id of the task, regions for the configuration of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from service.errors import InvalidRequestError
from service.exports.label_studio import labelling_config, task
from service.exports.label_studio_backend import (
    MAX_CONFIG_CHARACTERS,
    MAX_CONFIG_TAGS,
    MAX_TASKS,
    PredictRequest,
    health_reply,
    predict_reply,
    predictions,
    read_control,
    setup_reply,
    versions_reply,
)
from service.exports.rows import ExportRow
from service.schema.replies.exports import LabelStudioTask, PredictReply
from tests.exports.examples import CLASSES, PLAIN, ROWS, options
from tests.replies import assert_is

CONFIG = """<View><Image name="img" value="$image"/><!-- five at most -->
<Rating name="stars" toName="img"/><Choices name="kind" toName="img, other"><Choice value="dog"/></Choices>
<Choices name="second" toName="img"><Choice value="dog"/></Choices></View>"""


class Lookup:
    """Looks up rows by id, and records the ids of each call."""

    def __init__(self, rows: Sequence[ExportRow] = ROWS) -> None:
        self._rows = {row.id: row for row in rows}
        self.calls: list[list[str]] = []

    def __call__(self, ids: Sequence[str]) -> Mapping[str, ExportRow]:
        self.calls.append(list(ids))
        return {identity: self._rows[identity] for identity in ids if identity in self._rows}


def task_with(**data: Any) -> dict[str, Any]:
    return {"id": 900, "data": data}


def test_exported_tasks_get_the_prediction_of_the_export() -> None:
    tasks = [task(row, options()) for row in ROWS]
    assert_is(list[LabelStudioTask], tasks)
    config = labelling_config(CLASSES, options())
    predicted = predictions(tasks[::-1], Lookup(), options(), config)
    assert predicted == [item["predictions"][0] for item in tasks[::-1]]


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_the_sdk_accepts_the_predictions() -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    config = labelling_config(CLASSES[:2], options())
    tasks = [task_with(external_id=row.id) for row in ROWS] + [task_with()]
    for prediction in predictions(tasks, Lookup(), options(from_name="other"), config):
        assert sdk.LabelInterface(config).validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize(
    ("data", "rank"),
    [
        ({"external_id": "row-17", "id": "-5"}, 1),
        ({"external_id": "gone", "id": "row-17"}, 1),
        ({"id": -5}, 5),
        ({"external_id": ""}, 3),
    ],
)
def test_a_task_finds_its_row_by_external_id_then_by_id(data: dict[str, Any], rank: int) -> None:
    (prediction,) = predictions([task_with(**data)], Lookup(), options())
    assert prediction["score"] == task(ROWS[rank - 1], options())["predictions"][0]["score"]


@pytest.mark.parametrize(
    "unknown",
    [
        task_with(),
        task_with(external_id="gone"),
        task_with(external_id=None, id=[1]),
        task_with(id=True),
        {},
        {"data": 3},
    ],
)
def test_an_unknown_task_comes_last_without_a_suggestion(unknown: Any) -> None:
    reply = predict_reply(PredictRequest([unknown, task_with(external_id="row-17")], None), Lookup(), options())
    assert_is(PredictReply, reply)
    last, first = reply["results"]
    assert last == {"model_version": "focal-r-1.a/7", "score": 1.0, "result": []}
    assert first["score"] < 1.0


def test_the_rows_are_looked_up_once_and_each_id_once() -> None:
    lookup = Lookup()
    predictions(
        [task_with(external_id="a", id=1), task_with(external_id="a"), task_with(id=1), task_with()], lookup, options()
    )
    assert lookup.calls == [["a", "1"]]


def test_no_tasks_have_no_predictions() -> None:
    assert predict_reply(PredictRequest([], None), Lookup(), options()) == {
        "results": [],
        "model_version": "focal-r-1.a/7",
    }


def test_the_suggestion_fills_in_the_first_choices_of_the_configuration() -> None:
    (prediction,) = predictions([task_with(external_id="row-17")], Lookup(), options(), CONFIG)
    (region,) = prediction["result"]
    assert (region["from_name"], region["to_name"], region["value"]) == ("kind", "img", {"choices": ["dog"]})


def test_a_task_that_hides_the_suggestion_has_its_score_only() -> None:
    shown, hidden = predictions(
        [task_with(id="row-17"), task_with(id="row-17", suggestion="hidden")], Lookup(), options()
    )
    assert hidden == {**shown, "result": []} != shown


@pytest.mark.parametrize("config", [None, "", "  \n"])
def test_without_a_configuration_the_options_apply(config: str | None) -> None:
    control = read_control(config, options(from_name="f", to_name="t"))
    assert control is not None
    assert (control.tag, control.from_name, control.to_name, control.labels) == ("Choices", "f", "t", None)


@pytest.mark.parametrize(
    "config",
    [
        '<View><Text name="text" value="$text"/></View>',
        '<View><Choices name="label"><Choice value="dog"/></Choices></View>',
        '<View><Choices name="label" toName="text"><Choice value="wolf"/></Choices></View>',
        '<View><Choices name="verdict" toName="text"><Choice value="dog"/></Choices></View>',
    ],
)
def test_without_a_control_for_the_suggestion_the_score_remains(config: str) -> None:
    (prediction,) = predictions([task_with(external_id="row-17")], Lookup(), options(), config)
    assert prediction["result"] == []
    assert prediction["score"] == task(PLAIN, options())["predictions"][0]["score"]


@pytest.mark.parametrize(
    ("choice", "text"),
    [('<Choice value="dog" alias="d"/>', "d"), ('<Choice value="Der Hund" alias="dog"/>', "dog"), ("", "dog")],
)
def test_a_choice_has_its_alias_and_choices_from_the_data_are_unrestricted(choice: str, text: str) -> None:
    source = "" if choice else ' value="$choices"'
    config = f'<View><Choices name="label" toName="text"{source}>{choice}</Choices></View>'
    (prediction,) = predictions([task_with(external_id="row-17")], Lookup(), options(), config)
    assert prediction["result"][0]["value"] == {"choices": [text]}


@pytest.mark.parametrize(
    "config",
    [
        '<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>',
        '<?xml version="1.0"?>\n<!DOCTYPE View SYSTEM "file:///etc/passwd"><View/>',
        "<View>&a;</View>",
        "<View>",
        "no xml",
    ],
)
def test_entities_document_types_and_invalid_xml_are_rejected(config: str) -> None:
    with pytest.raises(InvalidRequestError, match="label_config: "):
        predictions([], Lookup(), options(), config)


def test_setup_and_health() -> None:
    assert setup_reply(options()) == {"model_version": "focal-r-1.a/7"}
    assert versions_reply(options()) == {"versions": ["focal-r-1.a/7"]}
    assert health_reply() == {"status": "UP", "model_class": "FocalLoss"}


def test_a_row_without_a_suggestion_keeps_its_score() -> None:
    (prediction,) = predictions([task_with(external_id="x")], Lookup([replace(ROWS[2], id="x")]), options())
    assert prediction == {"model_version": "focal-r-1.a/7", "score": 0.5, "result": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "an object with a list of tasks"),
        ([], "an object with a list of tasks"),
        ({}, "an object with a list of tasks"),
        ({"tasks": {}}, "an object with a list of tasks"),
        ({"tasks": [{}] * (MAX_TASKS + 1)}, f"{MAX_TASKS + 1} tasks, the limit is {MAX_TASKS}"),
        ({"tasks": [{}, []]}, "task 1 is not an object"),
        ({"tasks": [None]}, "task 0 is not an object"),
        ({"tasks": [], "label_config": 5}, "label_config is not a text"),
        ({"tasks": [], "label_config": ["<View/>"]}, "label_config is not a text"),
    ],
)
def test_a_body_of_another_shape_is_refused(body: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        PredictRequest.parse(body)


def test_the_largest_body_is_taken_and_further_members_are_ignored() -> None:
    request = PredictRequest.parse({"tasks": [{}] * MAX_TASKS, "label_config": None, "project": "1.2", "params": 5})
    assert (len(request.tasks), request.label_config) == (MAX_TASKS, None)


@pytest.mark.parametrize("config", ["<a>" + "x" * MAX_CONFIG_CHARACTERS, "<View>" + "<a/>" * MAX_CONFIG_TAGS])
def test_a_configuration_that_is_too_large_is_refused_before_it_is_parsed(config: str) -> None:
    with pytest.raises(InvalidRequestError, match="the limits are 2000000, 100000"):
        read_control(config, options())
