"""The preview is what the writer writes, and its validator refuses what the tool would."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from typing import Any

import pyarrow.parquet
import pytest

from service.exports.formats import FORMATS
from service.exports.preview import FLAT, preview, read_back
from service.exports.tables import COLUMNS
from service.exports.validators import DOCUMENTED
from service.schema.replies.exports import PreviewRows, Validation
from tests.exports.examples import CLASSES, INFINITE, PLAIN, ROWS, options, whole
from tests.replies import assert_is

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
csv.field_size_limit(1 << 20)
EVERY = pytest.mark.parametrize("name", FORMATS)
SOUND = [
    replace(PLAIN, rank=rank, id=f"row-{rank}", attributes={"text": "a", "image": f"{rank}.png"}) for rank in (1, 2)
]


def refused(name: str, rows: Any, labels: Any = CLASSES, **changes: Any) -> dict[int, str]:
    found = preview(name, rows, options(**changes), labels)["validator"]
    assert_is(Validation, found)
    assert found["accepted"] + len(found["refused"]) == len(rows)
    return {one["row"]: one["reason"] for one in found["refused"]}


def read_by_others(name: str, content: bytes) -> list[Any]:
    match name:
        case "label-studio":
            return list(json.loads(content))
        case "fiftyone":
            return [{image: label} for image, label in json.loads(content)["labels"].items()]
        case "csv":
            return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        case "parquet":
            return list(pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist())
        case _:
            return [json.loads(line) for line in content.split(b"\n")[:-1]]


@EVERY
def test_the_rows_are_those_of_the_file(name: str) -> None:
    found = preview(name, ROWS, options(), CLASSES)
    assert_is(PreviewRows, found)
    assert found["rows"] == read_by_others(name, whole(FORMATS[name].write(ROWS, options())))
    assert found.get("columns") == (list(COLUMNS) if name in FLAT else None)


@EVERY
def test_sound_rows_are_accepted_by_who_is_named(name: str) -> None:
    found = preview(name, SOUND, options(), CLASSES)["validator"]
    assert (found["accepted"], found["refused"]) == (2, [])
    own = {"argilla": DOCUMENTED, "fiftyone": DOCUMENTED, "label-studio": "label_studio_sdk", "jsonl": "orjson"}
    assert found["name"] == own.get(name, "pyarrow")
    assert (found["version"] is None) == (found["name"] == DOCUMENTED)


@EVERY
def test_no_rows_are_nothing_to_refuse(name: str) -> None:
    found = preview(name, [], options(0), CLASSES)
    assert found["rows"] == []
    assert (found["validator"]["accepted"], found["validator"]["refused"]) == (0, [])


def test_without_the_sdk_nobody_is_said_to_have_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    monkeypatch.setitem(sys.modules, "label_studio_sdk.label_interface", None)
    found = preview("label-studio", SOUND, options(), CLASSES)
    assert found["validator"] is None
    assert "pip install 'focal-loss-service[label-studio]'" in found["notes"][0]
    assert [task["data"]["external_id"] for task in found["rows"]] == ["row-1", "row-2"]


def test_the_sdk_refuses_a_suggestion_outside_the_configuration() -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    found = refused("label-studio", [PLAIN, replace(PLAIN, rank=2, suggested_label="cow")])
    assert list(found) == [2]
    assert "Valid options" in found[2]


@pytest.mark.parametrize("changes", [{"from_name": "text"}, {"to_name": "a,b"}, {"object_tag": "Choices"}])
def test_the_sdk_refuses_a_configuration(changes: dict[str, Any]) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    found = refused("label-studio", SOUND, **changes)
    assert list(found) == [1, 2]
    assert all(reason.startswith("the labelling configuration: ") for reason in found.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, "the id is empty"),
        ({"id": "row-1"}, "another row has the same id"),
        ({"suggested_label": "cow"}, "the suggestion 'cow' is not a label"),
        ({"suggested_label": "c" * 201}, "a label has 1 to 200 characters, not 201"),
        ({"attributes": {"text": 3}}, "text is not a text"),
    ],
)
def test_argilla_would_refuse(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused("argilla", [SOUND[0], replace(SOUND[1], **changes)])[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"from_name": ""}, "the question's name has 1 to 200 characters, not 0"),
        ({"to_name": "f" * 201}, "the field's name has 1 to 200 characters, not 201"),
        ({"from_name": "text"}, "question and field are both called 'text'"),
    ],
)
def test_argilla_would_refuse_the_settings(changes: dict[str, Any], reason: str) -> None:
    assert set(refused("argilla", SOUND, **changes).values()) == {reason}
    assert set(refused("argilla", SOUND, ["cat", "dog", "cat"]).values()) == {"two classes have the same name"}


def test_fiftyone_takes_two_rows_of_one_image_for_one() -> None:
    twice = [SOUND[0], replace(SOUND[1], attributes={"image": "1.jpg"})]
    assert refused("fiftyone", twice) == dict.fromkeys((1, 2), "another row has the same image, 1")
    assert len(read_back("fiftyone", twice, options())) == 2
    assert refused("fiftyone", [replace(PLAIN, id="")]) == {1: "the path of its image is empty"}


def test_fiftyone_knows_a_class_by_its_place() -> None:
    assert refused("fiftyone", SOUND, CLASSES[:1]) == dict.fromkeys((1, 2), "the label 1 is not a class")
    assert refused("fiftyone", SOUND, ["dog"], class_names=None) == {}
    assert "'dog'" in refused("fiftyone", SOUND, ["cat"], class_names=None)[1]


@EVERY
def test_a_number_that_is_not_finite_is_no_reason_to_refuse(name: str) -> None:
    assert refused(name, [INFINITE]) == {}


def test_rows_without_what_is_shown_are_counted() -> None:
    (said, _) = preview("label-studio", ROWS, options(data_key="group"), CLASSES)["notes"]
    assert said == "4 of these 5 rows have no attribute 'group': the id is shown instead. They have nested, text."
    (said, *_) = preview("argilla", [replace(PLAIN, attributes={})], options(), CLASSES)["notes"]
    assert said.startswith("1 of these 1 rows have no attribute 'text'")
    (said, *_) = preview("fiftyone", [PLAIN, *SOUND], options(), CLASSES)["notes"]
    assert said.startswith("1 of these 3 rows have no attribute 'image': the id stands for the path")
    assert len(preview("label-studio", SOUND, options(), CLASSES)["notes"]) == 1


@EVERY
def test_the_notes_say_how_to_keep_the_order(name: str) -> None:
    assert "rank" in " ".join(preview(name, SOUND, options(), CLASSES)["notes"])


@pytest.mark.parametrize("name", ["argilla", "fiftyone"])
def test_a_check_of_our_own_is_called_that(name: str) -> None:
    assert any("not by its own importer" in note for note in preview(name, SOUND, options(), CLASSES)["notes"])
