"""Label Studio's own validator accepts the tasks, and rejects tasks that the export avoids."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.exports.label_studio import labelling_config, review_score, task, write_label_studio
from service.exports.rows import ExportOptions
from tests.exports.examples import CLASSES, INFINITE, PLAIN, ROWS, options, whole

# The SDK uses deprecated functions of pydantic.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


def load_interface(export_options: ExportOptions) -> Any:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    interface = sdk.LabelInterface(labelling_config(CLASSES, export_options))
    interface.validate()
    return interface


def tasks_of(rows: Any, export_options: ExportOptions) -> list[dict[str, Any]]:
    return list(orjson.loads(whole(write_label_studio(rows, export_options))))


def assert_valid(interface: Any, item: dict[str, Any]) -> None:
    # `validate_task` of this SDK fails on predictions, as it calls `validate_prediction` without an argument.
    assert interface.validate_task({"data": item["data"]})
    for prediction in item["predictions"]:
        assert interface.validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize(
    "changes", [{}, {"from_name": "topic", "to_name": "body"}, {"data_key": "picture", "object_tag": "Image"}]
)
def test_the_sdk_accepts_every_task_and_prediction(changes: dict[str, Any]) -> None:
    export_options = options(**changes)
    interface = load_interface(export_options)
    tasks = tasks_of([*ROWS, replace(INFINITE, rank=5)], export_options)
    assert len(tasks) == len(ROWS) + 1
    for item in tasks:
        assert_valid(interface, item)


def test_the_sdk_rejects_the_raw_loss_as_score() -> None:
    interface = load_interface(options())
    (prediction,) = task(PLAIN, options())["predictions"]
    assert interface.validate_prediction(prediction)
    errors = interface.validate_prediction(prediction | {"score": PLAIN.loss}, return_errors=True)
    assert errors == ["Score must be between 0.00 and 1.00 inclusive, got 2.31"]


def test_the_sdk_rejects_names_that_the_configuration_lacks() -> None:
    interface = load_interface(options())
    for other in (options(from_name="other"), options(to_name="other", data_key="text")):
        assert not interface.validate_prediction(task(PLAIN, other)["predictions"][0])
    assert not interface.validate_task({"data": task(PLAIN, options(data_key="other"))["data"] | {"text": None}})


def test_a_task_in_full() -> None:
    (exported,) = tasks_of([replace(PLAIN, attributes={"text": "a barking animal", "rank": "captain"})], options(4))
    assert exported == {
        "data": {
            "text": "a barking animal",
            "attribute_rank": "captain",
            "external_id": "row-17",
            "given_label": "cat",
            "suggested_label": "dog",
            "suggested_p": 0.93,
            "suggestion": None,
            "rank": 1,
            "reason": "confidently another class",
            "focal_loss": 2.31,
            "share": 0.0042,
            "cross_entropy": 2.6,
            "p_t": 0.07,
            "log_odds": -2.5,
            "logit_margin": -3.1,
            "normalized_margin": 0.07,
            "entropy": 0.25,
            "el2n": 1.3,
            "strategy": "logit_margin",
            "strategy_score": -3.1,
            "last_review": None,
            "verdict": None,
            "verdict_label": None,
            "verdict_comment": None,
        },
        "meta": {"run": "r-1.a", "queue": "q1", "epoch": 7, "config_id": "fl_0123"},
        "predictions": [
            {
                "model_version": "focal-r-1.a/7",
                "score": 0.125,
                "result": [
                    {
                        "id": "p1",
                        "from_name": "label",
                        "to_name": "text",
                        "type": "choices",
                        "score": 0.93,
                        "value": {"choices": ["dog"]},
                    }
                ],
            }
        ],
    }


def test_every_task_has_a_prediction_of_the_same_version_and_no_annotation() -> None:
    tasks = tasks_of(ROWS, options())
    assert [set(item) for item in tasks] == [{"data", "meta", "predictions"}] * len(ROWS)
    versions = [[prediction["model_version"] for prediction in item["predictions"]] for item in tasks]
    assert versions == [["focal-r-1.a/7"]] * len(ROWS)
    assert [item["data"]["given_label"] for item in tasks] == [row.given_label for row in ROWS]
    assert [item["data"]["text"] for item in tasks] == [row.attributes.get("text", row.id) for row in ROWS]


def test_scores_follow_the_ranks_strictly() -> None:
    scores = [item["predictions"][0]["score"] for item in tasks_of(ROWS, options())]
    assert all(earlier < later for earlier, later in pairwise(scores))


def test_without_a_suggestion_there_is_no_region() -> None:
    (prediction,) = task(ROWS[2], options())["predictions"]
    assert prediction["result"] == []
    assert 0 < prediction["score"] < 1


def test_without_a_probability_the_region_has_no_score() -> None:
    (prediction,) = task(INFINITE, options())["predictions"]
    assert "score" not in prediction["result"][0]
    assert prediction["result"][0]["value"] == {"choices": ["dog"]}


@given(total=st.integers(1, 2**50), data=st.data())
def test_review_scores_are_strictly_monotone_for_any_total(total: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, total))
    score = review_score(rank, total)
    assert 0 < score < 1
    assert rank == total or score < review_score(rank + 1, total)


@pytest.mark.parametrize(("rank", "total"), [(0, 5), (6, 5), (1, 0)])
def test_a_rank_outside_the_total_is_rejected(rank: int, total: int) -> None:
    with pytest.raises(ValueError, match=rf"rank {rank} is not in 1\.\.{total}"):
        review_score(rank, total)


def test_the_configuration_contains_unchanged_class_names() -> None:
    assert list(load_interface(options()).get_control("label").labels_attrs) == list(CLASSES)


def test_a_class_name_that_xml_cannot_represent_is_rejected() -> None:
    with pytest.raises(InvalidRequestError, match="a labelling configuration cannot hold one of these names"):
        labelling_config(["a\x00b"], options())


@pytest.mark.parametrize("tag", ["{", "", "a b", "1"])
def test_a_tag_that_xml_cannot_represent_is_rejected(tag: str) -> None:
    with pytest.raises(InvalidRequestError, match="a labelling configuration cannot hold one of these names"):
        labelling_config(CLASSES, options(object_tag=tag))


@pytest.mark.parametrize("attributes", [{}, {"text": None}])
def test_a_task_without_data_shows_its_id(attributes: dict[str, Any]) -> None:
    assert task(replace(PLAIN, attributes=attributes), options())["data"]["text"] == "row-17"
