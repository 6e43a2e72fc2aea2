"""Regions of predictions: a class for each, labels of the project only, and nothing where nothing is suggested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidRequestError
from service.exports.label_studio import labelling_config, task
from service.exports.label_studio_backend import read_control
from service.exports.label_studio_regions import Control, control_of, regions
from service.exports.rows import ExportRow
from tests.exports.structured_examples import CLASSES, WHOLE, labels_row, row, task_options, unit

TOKENS = ["Ada", "Lovelace", "in", "London"]
# Two classes in one region of a 2 x 3 mask.
MASK = row((2, 3), unit(0, [0, 1, 4], [2, 2, 3]))


def found(task_name: str, given: ExportRow, **changes: Any) -> list[dict[str, Any]]:
    given_options = task_options(task_name, **changes)
    return [dict(region) for region in regions(given, control_of(given_options), given_options)]


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        ([1, 2], [(0, 12, "PER", 0.75)]),
        ([2, 1], [(0, 3, "PER", None), (4, 12, "PER", None)]),
        ([1, 1], [(0, 3, "PER", None), (4, 12, "PER", None)]),
        ([1, 3], [(0, 3, "PER", None), (4, 12, "LOC", None)]),
        ([3, 3], [(0, 12, "LOC", 0.75)]),
        ([0, 0], [(0, 12, "O", 0.75)]),
    ],
)
def test_a_span_is_a_region_for_each_entity(predictions: list[int], labels: list[tuple[Any, ...]]) -> None:
    given = row((4,), unit([0, 2], [0, 1], predictions), tokens=TOKENS)
    values = [(region["value"], region.get("score")) for region in found("tokens", given)]
    assert [(value["start"], value["end"], *value["labels"], score) for value, score in values] == labels
    assert all(value["text"] == " ".join(TOKENS)[value["start"] : value["end"]] for value, _ in values)


def test_without_tokens_there_is_no_span_and_the_id_is_shown() -> None:
    exported = task(row((4,), unit([0, 2], [0, 1], [1, 2])), task_options("tokens"))
    assert (exported["data"]["text"], exported["predictions"][0]["result"]) == (WHOLE.id, [])


def test_a_region_of_two_classes_is_a_brush_for_each() -> None:
    sdk = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    first, second = found("masks", MASK)
    for region, label, places in ((first, "I-PER", [0, 1]), (second, "LOC", [4])):
        assert region["value"]["brushlabels"] == [label]
        assert np.flatnonzero(sdk.decode_rle(region["value"]["rle"])[3::4]).tolist() == places
        assert (region["original_width"], region["original_height"]) == (3, 2)
    assert (first["score"], "score" in second, first["id"] != second["id"]) == (0.75, False, True)


def test_polygons_are_in_percent_of_the_image() -> None:
    first, second = found("masks", MASK, mask_tag="PolygonLabels")
    assert first["value"]["points"] == [[0, 0], [pytest.approx(200 / 3), 0], [pytest.approx(200 / 3), 50], [0, 50]]
    assert second["value"]["polygonlabels"] == ["LOC"]
    assert (first["type"], first["value"]["closed"]) == ("polygonlabels", True)


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_a_mask_needs_two_axes(shape: tuple[int, ...]) -> None:
    given = row(shape, unit(0, [0], [1]))
    with pytest.raises(
        InvalidRequestError, match=r"example 'row-17' is (6|1 x 2 x 3): labelling tools take masks of two"
    ):
        found("masks", given)


def test_several_labels_are_one_choice_and_no_label_is_none() -> None:
    (region,) = found("multi_label", labels_row([1, 0, -1, 0], [2, -1, 1, 3]))
    assert region["value"] == {"choices": ["O", "I-PER", "LOC"]}
    assert "score" not in region
    assert found("multi_label", labels_row([1, 0], [-2, -1])) == []


@pytest.mark.parametrize("task_name", ["multi_label", "tokens", "masks"])
def test_an_example_without_elements_has_no_region(task_name: str) -> None:
    assert found(task_name, WHOLE) == []


@pytest.mark.parametrize(
    ("task_name", "config", "expected"),
    [
        ("tokens", "<View><Choices name='c' toName='t'/><Labels name='l' toName='t'/></View>", ("Labels", "l")),
        (
            "masks",
            "<View><PolygonLabels name='p' toName='t'/><BrushLabels name='b' toName='t'/></View>",
            ("PolygonLabels", "p"),
        ),
        ("multi_label", "<View><Labels name='l' toName='t'/><Choices name='c' toName='t'/></View>", ("Choices", "c")),
    ],
)
def test_the_control_of_a_project_fits_the_task(task_name: str, config: str, expected: tuple[str, str]) -> None:
    control = read_control(config, task_options(task_name))
    assert control is not None
    assert (control.tag, control.from_name) == expected


def test_a_label_gets_the_alias_of_the_project_and_unknown_ones_are_left_out() -> None:
    given_options = task_options("masks")
    (region,) = regions(MASK, Control("BrushLabels", "b", "i", {"LOC": "place"}), given_options)
    assert region["value"]["brushlabels"] == ["place"]
    control = read_control(
        "<View><BrushLabels name='b' toName='i'><Label value='LOC' alias='place'/></BrushLabels></View>", given_options
    )
    assert control is not None
    assert control.labels == {"LOC": "place", "place": "place"}


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.parametrize("changes", [{}, {"mask_tag": "PolygonLabels"}])
def test_the_sdk_accepts_the_regions_of_its_configuration(changes: dict[str, Any]) -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    for task_name, given in (
        ("masks", MASK),
        ("tokens", row((4,), unit([0, 2], [0, 1], [1, 2]), tokens=TOKENS)),
        ("multi_label", labels_row([1, 0, -1, 0], [2, -1, 1, 3])),
    ):
        given_options = task_options(task_name, total=1, **changes)
        config = labelling_config(CLASSES, given_options)
        interface = sdk.LabelInterface(config)
        # People choose the verdict where regions do not say it.
        assert ("verdict" in interface._controls) == (task_name != "multi_label")
        (prediction,) = task(replace(given, rank=1), given_options)["predictions"]
        assert interface.validate_prediction(prediction, return_errors=True) == []
        wrong = {**prediction, "result": [{**prediction["result"][0], "from_name": "other"}]}
        assert interface.validate_prediction(wrong, return_errors=True) != []
