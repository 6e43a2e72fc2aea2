"""Label Studio's own validator reads what we write, and refuses what we avoid."""

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

# The SDK's own modules still use pydantic's first version of these.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


def interface(given: ExportOptions) -> Any:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    made = sdk.LabelInterface(labelling_config(CLASSES, given))
    made.validate()
    return made


def written(rows: Any, given: ExportOptions) -> list[dict[str, Any]]:
    return list(orjson.loads(whole(write_label_studio(rows, given))))


def assert_valid(made: Any, one: dict[str, Any]) -> None:
    # `validate_task` of this SDK calls its `validate_prediction` without the prediction: one after the other, then.
    assert made.validate_task({"data": one["data"]})
    for found in one["predictions"]:
        assert made.validate_prediction(found, return_errors=True) == []


@pytest.mark.parametrize(
    "changes", [{}, {"from_name": "topic", "to_name": "body"}, {"data_key": "picture", "object_tag": "Image"}]
)
def test_the_sdk_takes_every_task_and_prediction(changes: dict[str, Any]) -> None:
    given = options(**changes)
    made = interface(given)
    tasks = written([*ROWS, replace(INFINITE, rank=5)], given)
    assert len(tasks) == len(ROWS) + 1
    for one in tasks:
        assert_valid(made, one)


def test_the_sdk_refuses_the_raw_loss_as_score() -> None:
    made = interface(options())
    (found,) = task(PLAIN, options())["predictions"]
    assert made.validate_prediction(found)
    errors = made.validate_prediction(found | {"score": PLAIN.loss}, return_errors=True)
    assert errors == ["Score must be between 0.00 and 1.00 inclusive, got 2.31"]


def test_the_sdk_refuses_names_that_the_configuration_lacks() -> None:
    made = interface(options())
    for other in (options(from_name="other"), options(to_name="other", data_key="text")):
        assert not made.validate_prediction(task(PLAIN, other)["predictions"][0])
    assert not made.validate_task({"data": task(PLAIN, options(data_key="other"))["data"] | {"text": None}})


def test_a_task_in_full() -> None:
    (found,) = written([replace(PLAIN, attributes={"text": "a barking animal", "rank": "captain"})], options(4))
    assert found == {
        "data": {
            "text": "a barking animal",
            "attribute_rank": "captain",
            "external_id": "row-17",
            "given_label": "cat",
            "suggested_label": "dog",
            "suggested_p": 0.93,
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
            "verdict": None,
            "verdict_label": None,
        },
        "meta": {"run": "r-1.a", "queue": "q1", "epoch": 7, "config_id": "fl_0123"},
        "predictions": [
            {
                "model_version": "focal-r-1.a",
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


def test_every_task_has_one_prediction_of_one_version_and_no_annotation() -> None:
    tasks = written(ROWS, options())
    assert [set(one) for one in tasks] == [{"data", "meta", "predictions"}] * len(ROWS)
    assert [[found["model_version"] for found in one["predictions"]] for one in tasks] == [["focal-r-1.a"]] * len(ROWS)
    assert [one["data"]["given_label"] for one in tasks] == [row.given_label for row in ROWS]
    assert [one["data"]["text"] for one in tasks] == [row.attributes.get("text", row.id) for row in ROWS]


def test_scores_follow_the_ranks_strictly() -> None:
    scores = [one["predictions"][0]["score"] for one in written(ROWS, options())]
    assert all(earlier < later for earlier, later in pairwise(scores))


def test_without_another_class_there_is_no_region() -> None:
    (without,) = task(ROWS[2], options())["predictions"]
    assert without["result"] == []
    assert 0 < without["score"] < 1


def test_without_a_probability_the_region_has_no_score() -> None:
    (found,) = task(INFINITE, options())["predictions"]
    assert "score" not in found["result"][0]
    assert found["result"][0]["value"] == {"choices": ["dog"]}


@given(total=st.integers(1, 2**50), data=st.data())
def test_review_scores_are_strictly_monotone_for_any_total(total: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, total))
    score = review_score(rank, total)
    assert 0 < score < 1
    assert rank == total or score < review_score(rank + 1, total)


@pytest.mark.parametrize(("rank", "total"), [(0, 5), (6, 5), (1, 0)])
def test_a_rank_outside_the_total_is_an_error_of_the_caller(rank: int, total: int) -> None:
    with pytest.raises(ValueError, match=rf"rank {rank} is not in 1\.\.{total}"):
        review_score(rank, total)


def test_the_configuration_holds_the_class_names_as_they_are() -> None:
    assert list(interface(options()).get_control("label").labels_attrs) == list(CLASSES)


def test_a_class_name_that_xml_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a labelling configuration cannot hold one of these names"):
        labelling_config(["a\x00b"], options())


@pytest.mark.parametrize("attributes", [{}, {"text": None}])
def test_a_task_without_data_shows_its_id(attributes: dict[str, Any]) -> None:
    assert task(replace(PLAIN, attributes=attributes), options())["data"]["text"] == "row-17"
