"""Units in tables that people edit: as exports write them, as a spreadsheet leaves them, and by the name of a label."""

from __future__ import annotations

import pytest

from service.exports.review_rows import read_reviews
from service.exports.unit_texts import UnitTexts
from service.formats.columns import ColumnError
from service.queries.unit_names import UnitName
from service.schema.structure import Task

LABELS = ["beach", "sea", "0"]


@pytest.mark.parametrize(
    ("task", "value", "unit"),
    [
        ("multi_label", 1, 1),
        ("multi_label", "1", 1),
        ("multi_label", "1.0", 1),
        ("multi_label", " sea ", 1),
        # Exports write numbers, so digits are never a name.
        ("multi_label", "0", 0),
        ("tokens", [1, 3], [1, 3]),
        ("tokens", "[1, 3]", [1, 3]),
        ("tokens", " [1,3] ", [1, 3]),
        ("masks", 7, 7),
        ("masks", 7.0, 7),
        ("masks", "7", 7),
    ],
)
def test_a_unit_in_every_form(task: Task, value: object, unit: UnitName) -> None:
    assert UnitTexts(task, LABELS).find(value) == unit
    row = {"id": "a", "verdict": "ok", "unit": value}
    assert list(read_reviews([row], LABELS, task)) == [(0, {"id": "a", "verdict": "ok", "unit": unit})]


@pytest.mark.parametrize(
    ("task", "value", "says"),
    [
        ("multi_label", "lake", "'lake' is not the name of a class; the names are 'beach'"),
        ("multi_label", [1, 2], r"'\[1, 2\]' is not the number or the name of a label"),
        ("multi_label", "-1", "'-1' is not the name"),
        ("tokens", "3", r"'3' is not a span of tokens, \[start, stop\]"),
        ("tokens", "1-3", "'1-3' is not a span"),
        ("tokens", "[1]", "is not a span"),
        ("tokens", "[1, 2.5]", "is not a span"),
        ("masks", "sky", "'sky' is not the number of a region"),
        ("masks", "[0, 1]", "is not the number of a region"),
        ("masks", 1.5, "'1.5' is not the number of a region"),
    ],
)
def test_what_is_no_unit_of_the_task(task: Task, value: object, says: str) -> None:
    with pytest.raises(ColumnError, match=says) as caught:
        list(read_reviews([{"id": "a", "verdict": "ok", "unit": value}], LABELS, task))
    assert (caught.value.row, caught.value.column) == (0, "unit")


def test_rows_of_an_example_are_told_apart_by_their_units() -> None:
    rows = [{"rank": rank, "id": "a", "verdict": "ok", "unit": unit} for rank, unit in enumerate([0, 1, None, ""])]
    with pytest.raises(ColumnError, match="'a' is also the id of rank 2"):
        list(read_reviews(rows, None, "masks"))
    assert [review.get("unit") for _, review in read_reviews(rows[:3], None, "masks")] == [0, 1, None]
    # A run with one class of each example has no units: the column is one of the user's own.
    assert list(read_reviews(rows[:1], None)) == [(0, {"id": "a", "verdict": "ok"})]


def test_a_unit_of_several_labels_is_present_or_absent() -> None:
    rows = [{"id": label, "verdict": "wrong", "unit": 0, "label": label} for label in ("absent", "present", "1")]
    assert [review["label"] for _, review in read_reviews(rows, LABELS, "multi_label")] == [0, 1, 1]
    with pytest.raises(ColumnError, match="'sea' is not the name of a class; the names are 'absent', 'present'"):
        list(read_reviews([rows[0] | {"label": "sea"}], LABELS, "multi_label"))
