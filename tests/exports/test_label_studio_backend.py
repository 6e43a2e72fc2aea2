"""A run as an ML backend: rows found by the task's id, regions that fit the project's own configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from service.errors import InvalidRequestError
from service.exports.label_studio import labelling_config, task
from service.exports.label_studio_backend import (
    health_reply,
    predict_reply,
    predictions,
    read_control,
    setup_reply,
    webhook_reply,
)
from service.exports.rows import ExportRow
from service.schema.replies.exports import LabelStudioTask, PredictReply
from tests.exports.examples import CLASSES, PLAIN, ROWS, options
from tests.replies import assert_is

CONFIG = """<View><Image name="img" value="$image"/><!-- five at most -->
<Rating name="stars" toName="img"/><Choices name="kind" toName="img, other"><Choice value="dog"/></Choices>
<Choices name="second" toName="img"><Choice value="dog"/></Choices></View>"""


class Known:
    """Rows by their ids, and what was asked for."""

    def __init__(self, rows: Sequence[ExportRow] = ROWS) -> None:
        self._rows = {row.id: row for row in rows}
        self.asked: list[list[str]] = []

    def __call__(self, ids: Sequence[str]) -> Mapping[str, ExportRow]:
        self.asked.append(list(ids))
        return {identity: self._rows[identity] for identity in ids if identity in self._rows}


def of(**data: Any) -> dict[str, Any]:
    return {"id": 900, "data": data}


def test_tasks_that_were_exported_get_the_prediction_of_the_export() -> None:
    tasks = [task(row, options()) for row in ROWS]
    assert_is(list[LabelStudioTask], tasks)
    config = labelling_config(CLASSES, options())
    found = predictions(tasks[::-1], Known(), options(), config)
    assert found == [one["predictions"][0] for one in tasks[::-1]]


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_the_sdk_takes_the_predictions() -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    config = labelling_config(CLASSES[:2], options())
    tasks = [of(external_id=row.id) for row in ROWS] + [of()]
    for found in predictions(tasks, Known(), options(from_name="other"), config):
        assert sdk.LabelInterface(config).validate_prediction(found, return_errors=True) == []


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
    (found,) = predictions([of(**data)], Known(), options())
    assert found["score"] == task(ROWS[rank - 1], options())["predictions"][0]["score"]


@pytest.mark.parametrize(
    "unknown",
    [of(), of(external_id="gone"), of(external_id=None, id=[1]), of(id=True), {}, {"data": 3}, None, "row-17"],
)
def test_an_unknown_task_comes_last_without_a_suggestion(unknown: Any) -> None:
    reply = predict_reply([unknown, of(external_id="row-17")], Known(), options())
    assert_is(PredictReply, reply)
    unknown_one, known = reply["results"]
    assert unknown_one == {"model_version": "focal-r-1.a", "score": 1.0, "result": []}
    assert known["score"] < 1.0


def test_the_rows_are_looked_up_once_and_each_id_once() -> None:
    known = Known()
    predictions([of(external_id="a", id=1), of(external_id="a"), of(id=1), of()], known, options())
    assert known.asked == [["a", "1"]]


def test_no_tasks_have_no_predictions() -> None:
    assert predict_reply([], Known(), options()) == {"results": [], "model_version": "focal-r-1.a"}


def test_the_first_choices_of_the_configuration_are_filled() -> None:
    (found,) = predict_reply([of(external_id="row-17")], Known(), options(), CONFIG)["results"]
    (region,) = found["result"]
    assert (region["from_name"], region["to_name"], region["value"]) == ("kind", "img", {"choices": ["dog"]})


@pytest.mark.parametrize("config", [None, "", "  \n"])
def test_without_a_configuration_the_options_hold(config: str | None) -> None:
    control = read_control(config, options(from_name="f", to_name="t"))
    assert control is not None
    assert (control.from_name, control.to_name, control.choices) == ("f", "t", None)


@pytest.mark.parametrize(
    "config",
    [
        '<View><Text name="text" value="$text"/></View>',
        '<View><Choices name="label"><Choice value="dog"/></Choices></View>',
        '<View><Choices name="label" toName="text"><Choice value="wolf"/></Choices></View>',
    ],
)
def test_where_the_suggestion_has_no_place_the_order_remains(config: str) -> None:
    (found,) = predictions([of(external_id="row-17")], Known(), options(), config)
    assert found["result"] == []
    assert found["score"] == task(PLAIN, options())["predictions"][0]["score"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [('<Choice value="dog" alias="d"/>', "d"), ('<Choice value="Der Hund" alias="dog"/>', "dog"), ("", "dog")],
)
def test_a_choice_is_said_by_its_alias_and_those_of_the_data_are_all_allowed(choice: str, said: str) -> None:
    source = "" if choice else ' value="$choices"'
    config = f'<View><Choices name="label" toName="text"{source}>{choice}</Choices></View>'
    (found,) = predictions([of(external_id="row-17")], Known(), options(), config)
    assert found["result"][0]["value"] == {"choices": [said]}


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
def test_entities_document_types_and_what_is_not_xml_are_refused(config: str) -> None:
    with pytest.raises(InvalidRequestError, match="label_config: "):
        predictions([], Known(), options(), config)


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING"])
def test_a_known_action_is_created_and_ok(action: str) -> None:
    assert webhook_reply(action) == (201, {"result": {}, "status": "ok"})


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", None, 7])
def test_an_unknown_action_is_said_to_be_so(action: Any) -> None:
    assert webhook_reply(action) == (200, {"status": "Unknown event"})


def test_setup_and_health() -> None:
    assert setup_reply(options()) == {"model_version": "focal-r-1.a"}
    assert health_reply() == {"status": "UP", "model_class": "FocalLoss"}


def test_a_row_without_another_class_keeps_its_place() -> None:
    (found,) = predictions([of(external_id="x")], Known([replace(ROWS[2], id="x")]), options())
    assert found == {"model_version": "focal-r-1.a", "score": 0.5, "result": []}
