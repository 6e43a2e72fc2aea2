"""FiftyOne's labels.json: the model's label, the given one beside it, and the image that it belongs to."""

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


def written(rows: Any, **changes: Any) -> dict[str, Any]:
    return dict(orjson.loads(whole(write_fiftyone(rows, options(**changes)))))


def test_every_row_is_there_in_order_with_classes_by_index() -> None:
    found = written(ROWS)
    assert_is(dict[str, Classification], found["labels"])
    assert found["classes"] == list(CLASSES)
    assert list(found["labels"]) == [row.id for row in ROWS]
    assert [CLASSES[one["label"]] for one in found["labels"].values()] == [
        row.suggested_label or row.given_label for row in ROWS
    ]
    for one, row in zip(found["labels"].values(), ROWS, strict=True):
        assert tool_fields(row).items() <= one["attributes"].items()


def test_without_class_names_a_label_is_its_name() -> None:
    found = written(ROWS, class_names=None)
    assert set(found) == {"labels"}
    assert [one["label"] for one in found["labels"].values()] == [row.suggested_label or "cat" for row in ROWS]


def test_the_confidence_is_that_of_the_suggestion() -> None:
    assert classification(PLAIN, options())["confidence"] == 0.93
    for row in (ROWS[2], INFINITE):
        assert "confidence" not in classification(row, options())


def test_where_the_model_agrees_the_label_is_the_given_one() -> None:
    found = classification(ROWS[2], options())
    assert (found["label"], found["attributes"]["given_label"]) == (0, "cat")
    assert found["attributes"]["suggested_label"] is None


def test_attributes_are_kept_where_fiftyone_can_keep_them() -> None:
    mine = {"camera": "left", "a.b": 1, "$c": 2, "_d": 3, "deep": {"e": 1}, "none": None, "on": True, "label": "x"}
    found = classification(replace(PLAIN, attributes=mine), options())["attributes"]
    assert found == tool_fields(PLAIN) | {"camera": "left", "on": True, "attribute_label": "x"}
    assert not set(found) & set(OWN_NAMES)


@pytest.mark.parametrize(
    ("image", "root", "key"),
    [
        ("img17.jpg", "", "img17"),
        ("train/cat/img.17.jpeg", "", "train/cat/img.17"),
        ("./train//img17.png", "", "train/img17"),
        ("/data/set/cat/1.png", "/data/set", "cat/1"),
        ("/data/set/cat/1.png", "/data/set/", "cat/1"),
        ("/data/settled/1.png", "/data/set", "data/settled/1"),
        ("/elsewhere/1.png", "/data/set", "elsewhere/1"),
        ("https://host/a%20b/1.png?size=9#top", "/a b", "1"),
        ("s3://bucket/cat/1", "", "cat/1"),
    ],
)
def test_an_image_is_found_by_its_path_without_the_ending(image: str, root: str, key: str) -> None:
    row = replace(PLAIN, attributes={"image": image})
    assert image_key(row, options(image_root=root)) == key


@pytest.mark.parametrize(("identity", "key"), [("img17.JPG", "img17"), ("v1.2", "v1.2"), ("row 1", "row 1"), ("", "")])
@pytest.mark.parametrize("attributes", [{}, {"image": ""}, {"image": 3}])
def test_without_a_path_the_id_is_the_key(identity: str, key: str, attributes: dict[str, Any]) -> None:
    assert image_key(replace(PLAIN, id=identity, attributes=attributes), options()) == key


def test_the_path_may_be_under_another_name() -> None:
    assert image_key(replace(PLAIN, attributes={"file": "a/b.jpg"}), options(image_key="file")) == "a/b"
