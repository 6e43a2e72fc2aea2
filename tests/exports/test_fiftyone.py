"""FiftyOne's labels.json: the suggested label, the given label, and the path of the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.exports.fiftyone import OWN_NAMES, classification, image_key, write_fiftyone
from service.exports.rows import tool_fields
from service.schema.replies.exports import Classification
from tests.exports.examples import CLASSES, INFINITE, PLAIN, ROWS, options, whole
from tests.replies import assert_is


def file_of(rows: Any, **changes: Any) -> dict[str, Any]:
    return dict(orjson.loads(whole(write_fiftyone(rows, options(**changes)))))


def test_all_rows_are_in_order_with_classes_by_index() -> None:
    content = file_of(ROWS)
    assert_is(dict[str, Classification], content["labels"])
    assert content["classes"] == list(CLASSES)
    assert list(content["labels"]) == [row.id for row in ROWS]
    assert [CLASSES[label["label"]] for label in content["labels"].values()] == [
        row.suggested_label or row.given_label for row in ROWS
    ]
    for label, row in zip(content["labels"].values(), ROWS, strict=True):
        assert tool_fields(row).items() <= label["attributes"].items()


def test_without_class_names_a_label_is_its_name() -> None:
    content = file_of(ROWS, class_names=None)
    assert set(content) == {"labels"}
    assert [label["label"] for label in content["labels"].values()] == [row.suggested_label or "cat" for row in ROWS]


def test_the_confidence_is_that_of_the_suggestion_or_of_the_given_label() -> None:
    assert classification(PLAIN, options())["confidence"] == 0.93
    assert classification(ROWS[2], options())["confidence"] == ROWS[2].p_t
    for row in (INFINITE, replace(ROWS[2], p_t=float("nan"))):
        assert "confidence" not in classification(row, options())


def test_if_the_model_agrees_the_label_is_the_given_label() -> None:
    label = classification(ROWS[2], options())
    assert (label["label"], label["attributes"]["given_label"]) == (0, "cat")
    assert label["attributes"]["suggested_label"] is None


def test_attributes_that_fiftyone_can_store() -> None:
    mine = {"camera": "left", "a.b": 1, "$c": 2, "_d": 3, "deep": {"e": 1}, "none": None, "on": True, "label": "x"}
    attributes = classification(replace(PLAIN, attributes=mine), options())["attributes"]
    assert attributes == tool_fields(PLAIN) | {"camera": "left", "on": True, "attribute_label": "x"}
    assert not set(attributes) & set(OWN_NAMES)


@pytest.mark.parametrize(
    ("image", "root", "key"),
    [
        ("img17.jpg", "", "img17"),
        ("train/cat/img.17.jpeg", "", "train/cat/img.17"),
        ("./train//img17.png", "", "train/img17"),
        ("/data/set/cat/1.png", "/data/set", "cat/1"),
        ("/data/set/cat/1.png", "/data/set/", "cat/1"),
        ("/data/settled/1.png", "/data/set", "/data/settled/1.png"),
        ("/elsewhere/1.png", "/data/set", "/elsewhere/1.png"),
        ("/data/imgs/img00.png", "", "/data/imgs/img00.png"),
        ("file:///data/a%20b/1.png", "", "/data/a b/1.png"),
        ("C:\\data\\1.png", "", "C:\\data\\1.png"),
        ("D:/data/1.png", "", "D:/data/1.png"),
        ("c:1.png", "", "c:1"),
        ("../imgs/1.png", "", "../imgs/1"),
        ("https://host/a%20b/1.png?size=9#top", "/a b", "1"),
        ("s3://bucket/cat/1", "", "cat/1"),
    ],
)
def test_the_key_of_an_image_is_its_absolute_path_or_its_path_in_the_data_folder(
    image: str, root: str, key: str
) -> None:
    row = replace(PLAIN, attributes={"image": image})
    assert image_key(row, options(image_root=root)) == key


@pytest.mark.parametrize(("identity", "key"), [("img17.JPG", "img17"), ("v1.2", "v1.2"), ("row 1", "row 1"), ("", "")])
@pytest.mark.parametrize("attributes", [{}, {"image": ""}, {"image": 3}])
def test_without_a_path_the_id_is_the_key(identity: str, key: str, attributes: dict[str, Any]) -> None:
    assert image_key(replace(PLAIN, id=identity, attributes=attributes), options()) == key


def test_the_path_can_be_in_another_attribute() -> None:
    assert image_key(replace(PLAIN, attributes={"file": "a/b.jpg"}), options(image_key="file")) == "a/b"
