"""The preview contains the rows of the file, and its validator rejects rows that the tool would reject."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from service.exports.elements import AllElements, RowElements
from service.exports.formats import FORMATS
from service.exports.label_studio import labelling_config
from service.exports.preview import FLAT, preview, read_back
from service.exports.rows import ExportOptions
from service.exports.tables import COLUMNS
from service.exports.validators import DOCUMENTED
from service.schema.replies.exports import PreviewRows, Validation
from tests.exports.examples import CLASSES, INFINITE, PLAIN, ROWS, options, whole
from tests.exports.structured_examples import CLASSES as STRUCTURED_CLASSES
from tests.exports.structured_examples import WHOLE, labels_row, row, task_options, unit
from tests.replies import assert_is

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
csv.field_size_limit(1 << 20)
EVERY = pytest.mark.parametrize("name", FORMATS)
SOUND = [
    replace(PLAIN, rank=rank, id=f"row-{rank}", attributes={"text": "a", "image": f"{rank}.png"}) for rank in (1, 2)
]


def rejections(name: str, rows: Any, labels: Any = CLASSES, **changes: Any) -> dict[int, str]:
    validation = preview(name, rows, options(**changes), labels)["validator"]
    assert_is(Validation, validation)
    assert validation["accepted"] + len(validation["refused"]) == len(rows)
    return {row["row"]: row["reason"] for row in validation["refused"]}


def parsed_by_other_readers(name: str, content: bytes) -> list[Any]:
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
def test_the_rows_equal_those_of_the_file(name: str) -> None:
    reply = preview(name, ROWS, options(), CLASSES)
    assert_is(PreviewRows, reply)
    assert reply["rows"] == parsed_by_other_readers(name, whole(FORMATS[name].write(ROWS, options())))
    assert reply.get("columns") == (list(COLUMNS) if name in FLAT else None)


@EVERY
def test_sound_rows_are_accepted_by_the_named_validator(name: str) -> None:
    validation = preview(name, SOUND, options(), CLASSES)["validator"]
    assert (validation["accepted"], validation["refused"]) == (2, [])
    own = {"argilla": DOCUMENTED, "fiftyone": DOCUMENTED, "label-studio": "label_studio_sdk", "jsonl": "orjson"}
    assert validation["name"] == own.get(name, "pyarrow")
    assert (validation["version"] is None) == (validation["name"] == DOCUMENTED)


@EVERY
def test_an_export_without_rows(name: str) -> None:
    reply = preview(name, [], options(0), CLASSES)
    assert reply["rows"] == []
    assert (reply["validator"]["accepted"], reply["validator"]["refused"]) == (0, [])


def test_without_the_sdk_a_note_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    monkeypatch.setitem(sys.modules, "label_studio_sdk.label_interface", None)
    reply = preview("label-studio", SOUND, options(), CLASSES)
    assert reply["validator"] is None
    assert "pip install 'focal-loss-service[label-studio]'" in reply["notes"][0]
    assert [task["data"]["external_id"] for task in reply["rows"]] == ["row-1", "row-2"]


def test_the_sdk_rejects_a_suggestion_outside_the_configuration() -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    reasons = rejections("label-studio", [PLAIN, replace(PLAIN, rank=2, suggested_label="cow")])
    assert list(reasons) == [2]
    assert "Valid options" in reasons[2]


@pytest.mark.parametrize("changes", [{"from_name": "text"}, {"to_name": "a,b"}, {"object_tag": "Choices"}])
def test_the_sdk_rejects_a_configuration(changes: dict[str, Any]) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    reasons = rejections("label-studio", SOUND, **changes)
    assert list(reasons) == [1, 2]
    assert all(reason.startswith("the labelling configuration: ") for reason in reasons.values())


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
def test_records_that_argilla_rejects(changes: dict[str, Any], reason: str) -> None:
    assert reason in rejections("argilla", [SOUND[0], replace(SOUND[1], **changes)])[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"from_name": ""}, "the question's name has 1 to 200 characters, not 0"),
        ({"to_name": "f" * 201}, "the field's name has 1 to 200 characters, not 201"),
        ({"from_name": "text"}, "question and field are both called 'text'"),
    ],
)
def test_settings_that_argilla_rejects(changes: dict[str, Any], reason: str) -> None:
    assert set(rejections("argilla", SOUND, **changes).values()) == {reason}
    assert set(rejections("argilla", SOUND, ["cat", "dog", "cat"]).values()) == {"two classes have the same name"}


def test_fiftyone_rejects_rows_with_the_same_image() -> None:
    twice = [SOUND[0], replace(SOUND[1], attributes={"image": "1.jpg"})]
    assert rejections("fiftyone", twice) == dict.fromkeys((1, 2), "another row has the same image, 1")
    assert len(read_back("fiftyone", twice, options())) == 2
    outside = replace(PLAIN, attributes={"image": "../1.jpg"})
    assert rejections("fiftyone", [outside]) == {1: "the path of its image, ../1, is outside of the data folder"}
    assert rejections("fiftyone", [replace(PLAIN, attributes={"image": "/imgs/1.jpg"})]) == {}
    assert rejections("fiftyone", [replace(PLAIN, id="")]) == {1: "the path of its image is empty"}


def test_fiftyone_identifies_a_class_by_its_index() -> None:
    assert rejections("fiftyone", SOUND, CLASSES[:1]) == dict.fromkeys((1, 2), "the label 1 is not a class")
    assert rejections("fiftyone", SOUND, ["dog"], class_names=None) == {}
    assert "'dog'" in rejections("fiftyone", SOUND, ["cat"], class_names=None)[1]


@EVERY
def test_infinite_scores_are_accepted(name: str) -> None:
    assert rejections(name, [INFINITE]) == {}


def test_a_note_counts_the_rows_without_the_shown_attribute() -> None:
    (note, _) = preview("label-studio", ROWS, options(data_key="group"), CLASSES)["notes"]
    assert note == "4 of these 5 rows have no attribute 'group': the id is shown instead. They have nested, text."
    (note, *_) = preview("argilla", [replace(PLAIN, attributes={})], options(), CLASSES)["notes"]
    assert note.startswith("1 of these 1 rows have no attribute 'text'")
    (note, *_) = preview("fiftyone", [PLAIN, *SOUND], options(), CLASSES)["notes"]
    assert note.startswith("1 of these 3 rows have no attribute 'image': the id stands for the path")
    assert len(preview("label-studio", SOUND, options(), CLASSES)["notes"]) == 1


@EVERY
def test_the_notes_explain_the_order(name: str) -> None:
    assert "rank" in " ".join(preview(name, SOUND, options(), CLASSES)["notes"])


@pytest.mark.parametrize("name", ["argilla", "fiftyone"])
def test_a_note_says_if_the_tool_did_not_check_the_rows(name: str) -> None:
    assert any("not by its own importer" in note for note in preview(name, SOUND, options(), CLASSES)["notes"])


def test_label_studio_checks_the_classes_of_the_rows_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.exports.validators.MAX_LABELS_CHECKED", 2)
    many = [*(f"class {number}" for number in range(50)), "dog"]
    configured: list[list[str]] = []

    def record(labels: list[str], given: ExportOptions) -> str:
        configured.append(labels)
        return labelling_config(labels, given)

    monkeypatch.setattr("service.exports.validators.labelling_config", record)
    assert rejections("label-studio", SOUND, many) == {}
    assert configured == [["class 0", "class 1", "dog"]]


@pytest.mark.parametrize(
    ("labels", "reasons"),
    [
        (["O", "LOC"], ["the suggestion 'PER' is not a label"]),
        (STRUCTURED_CLASSES, []),
    ],
)
def test_argilla_rejects_spans_of_other_labels(labels: list[str], reasons: list[str]) -> None:
    given = row((2,), unit([0, 1], [0], [1]), tokens=["Ada", "ran"])
    validation = preview("argilla", [given], task_options("tokens"), labels)["validator"]
    assert [item["reason"] for item in validation["refused"]] == reasons


def test_argilla_rejects_several_labels_that_the_question_lacks() -> None:
    given = labels_row([0, 0], [1, -1])
    validation = preview("argilla", [given], task_options("multi_label"), ["LOC"])["validator"]
    assert [item["reason"] for item in validation["refused"]] == ["the suggestion 'O' is not a label"]


def test_fiftyone_rejects_masks_and_labels_of_unknown_classes() -> None:
    everything = AllElements(np.array([0, -1]), np.array([3, -1]), np.zeros(2, np.float32))
    given = replace(WHOLE, elements=RowElements((1, 2), (), everything))
    for labels, reasons in ((STRUCTURED_CLASSES, []), (STRUCTURED_CLASSES[:3], ["the class 3 does not exist"])):
        validation = preview("fiftyone", [given], task_options("masks"), labels)["validator"]
        assert [item["reason"] for item in validation["refused"]] == reasons
    validation = preview("fiftyone", [labels_row([0], [1])], task_options("multi_label"), ["LOC"])["validator"]
    assert [item["reason"] for item in validation["refused"]] == ["the label 'O' is not a class"]


def test_a_note_counts_the_rows_without_tokens() -> None:
    rows = [row((2,), unit([0, 1], [0], [1]), tokens=["Ada", "ran"]), row((2,), unit([0, 1], [0], [1]), text="Ada ran")]
    (note, *_) = preview("label-studio", rows, task_options("tokens"), STRUCTURED_CLASSES)["notes"]
    assert note.startswith("1 of these 2 rows have no attribute 'tokens': the id is shown instead, without spans.")
