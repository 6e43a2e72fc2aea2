"""Reviews in the rows of tables that people fill in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.exports.class_texts import ClassTexts
from service.exports.review_rows import COLUMNS, read_reviews
from service.exports.row_files import Row
from service.formats.columns import ColumnError
from service.schema.structure import Task
from tests.exports.read_rows import members_of


def reviews(
    rows: Sequence[Row], class_names: Sequence[str] | None = None, task: Task = "classification"
) -> list[dict[str, object]]:
    found = read_reviews(rows, class_names, task).reviews
    return [members_of(row) for row in found]


@pytest.mark.parametrize(
    ("value", "class_names", "index"),
    [
        ("dog", ["cat", "dog"], 1),
        (" dog ", ["cat", "dog"], 1),
        ("2", ["1", "2", "3"], 1),
        ("2", ["1", "3", "2"], 2),
        ("1", ["cat", "dog"], 1),
        ("1.0", ["cat", "dog"], 1),
        ("1", None, 1),
        (1, ["1", "2"], 1),
        (1.0, None, 1),
        ("TRUE", ["false", "true"], 1),
        ("true", ["TRUE", "true"], 1),
        ("1", ["1.0", "2.0"], 0),
        ("2", ["01", "02"], 1),
        ("1E+05", ["100", "1e5"], 1),
    ],
)
def test_a_class_is_found_by_name_then_by_number(value: object, class_names: list[str] | None, index: int) -> None:
    assert ClassTexts(class_names).find(value) == index


@pytest.mark.parametrize(
    ("value", "class_names", "says"),
    [
        ("owl", ["cat"], "'owl' is not the name of a class; the names are 'cat'"),
        ("owl", None, "no class names"),
        ("Dog", ["dog"], "'Dog' is not the name of a class"),
        ("1.5", None, "'1.5' is not the number of a class"),
        ("-1", None, "'-1' is not the number of a class"),
        (1.5, None, "'1.5' is not the number of a class"),
        (True, ["a", "b"], "'True' is not the name of a class"),
        ([1], None, "is not the number of a class"),
        ("True", ["TRUE", "true"], "may be 'TRUE' or 'true'"),
        ("1", ["1.0", "01"], "may be '1.0' or '01'"),
    ],
)
def test_other_values_are_no_class(value: object, class_names: list[str] | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClassTexts(class_names).find(value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"verdict": "ok"}, "row 1: a review needs an id"),
        ({"id": "", "verdict": "ok"}, "row 1: a review needs an id"),
        ({"id": "a", "verdict": "yes"}, "row 1, column 'verdict': 'yes' is not one of ok, wrong, unsure, exclude"),
        ({"id": "a", "verdict": "wrong", "label": "owl"}, "row 1, column 'label': 'owl' is not the name of a class"),
        ({"id": 1.5, "verdict": "ok"}, "row 1, column 'id': an id is a string or an integer, got 1.5"),
        ({"id": True, "verdict": "ok"}, "row 1, column 'id': an id is a string or an integer, got true"),
        ({"id": b"\xff", "verdict": "ok"}, "row 1, column 'id': an id of bytes is UTF-8"),
        ({"id": "7", "rank": 2, "verdict": "ok"}, "row 1, column 'id': '7' is also the id of rank 1"),
        ({"annotation_id": 1, "id": 5, "verdict": "ok"}, "column 'annotation_id': this is a table of Label Studio"),
        ({"id": 5, "data": {}, "annotations": []}, "row 1, column 'external_id': this is a table of Label Studio"),
        (
            {"id": "a", "verdict": "ok", "reviewer": "x" * 201},
            "row 1, column 'reviewer': String should have at most 200",
        ),
        ({"id": "a", "verdict": "ok", "comment": "x" * 10_001}, "row 1, column 'comment': String should have at most"),
        ({"id": 414, "external_id": "1513", "verdict": "ok"}, "row 1, column 'external_id': this is a table of Label"),
    ],
)
def test_an_error_names_row_column_and_value(row: dict[str, object], says: str) -> None:
    with pytest.raises(ColumnError) as caught:
        reviews([{"id": "7", "rank": 1, "verdict": "ok"}, row], ["cat"])
    text = f"{caught.value.place}: {caught.value.msg}"
    assert re.search(says, text), text


def test_values_of_a_row() -> None:
    rows: list[Row] = [
        {"id": "a", "verdict": " OK "},
        {"id": 2**64 - 1, "verdict": "wrong", "label": 1.0, "verdict_label": 0},
        {"id": b"b", "verdict": "wrong", "label": None, "verdict_label": 1},
        {"ids": Decimal(5), "verdict": "unsure", "comment": 7, "reviewer": "kim", "queue": ""},
        {"id": "c", "verdict": None},
        {"id": "d", "verdict": float("nan")},
        {"id": "e", "verdict": "conflict"},
        {"id": "f", "verdict": "Exclude"},
        {},
    ]
    assert reviews(rows) == [
        {"id": "a", "verdict": "ok"},
        {"id": "18446744073709551615", "verdict": "wrong", "label": 1},
        {"id": "b", "verdict": "wrong", "label": 1},
        {"id": "5", "verdict": "unsure", "comment": "7", "reviewer": "kim"},
        {"id": "f", "verdict": "exclude"},
    ]
    assert (read_reviews(rows, None).left_out, len(read_reviews(rows, None).reviews)) == (4, 5)


@pytest.mark.parametrize(
    ("value", "unit"),
    [("3", 3), ("3.0", 3), (3.0, 3), ("[2,5]", [2, 5]), ("[2, 5]", [2, 5]), ([2, 5], [2, 5]), ("beach", "beach")],
)
def test_a_unit_as_a_spreadsheet_leaves_it(value: object, unit: object) -> None:
    rows = [{"id": "a", "verdict": "ok", "unit": value}]
    assert [review["unit"] for review in reviews(rows, None, "tokens")] == [unit]
    assert ["unit" in review for review in reviews(rows, None)] == [False]


@pytest.mark.parametrize(("value", "label"), [("1", 1), ("true", 2), ('"a"', 3), (" sea ", 0), ("9", 9)])
def test_a_label_is_found_by_number_then_by_name(value: str, label: int) -> None:
    rows = [{"id": "a", "verdict": "ok", "unit": value}]
    assert [review["unit"] for review in reviews(rows, ["sea", "0", "true", '"a"'], "multi_label")] == [label]


def test_more_reviews_than_a_file_may_have_are_refused() -> None:
    rows = [{"id": str(number), "verdict": "ok"} for number in range(3)]
    assert len(read_reviews(rows, None, most=3).reviews) == 3
    with pytest.raises(ColumnError, match="more than 2 reviews"):
        read_reviews(rows, None, most=2)


@pytest.mark.parametrize("value", ["[1]", "[1,2,3]", "2.5", "{}", '["a", 1]', float("inf")])
def test_other_values_are_no_unit(value: object) -> None:
    rows = [{"id": "a", "verdict": "ok", "unit": value}]
    with pytest.raises(ColumnError, match="no label, span"):
        read_reviews(rows, None, "tokens")


plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
values = st.recursive(
    plain | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(COLUMNS.known), inner, max_size=3),
    max_leaves=6,
)
rows_of_values = st.dictionaries(
    st.sampled_from([*COLUMNS.known, "data", "attributes", "annotations", "units", "focal_loss", "strategy_score"]),
    values | st.sampled_from(["ok", "wrong", "a", "cat"]),
)


def rows_without_reviews(rows: list[Row], task: Task) -> list[int | None]:
    """The rows that were left out, or the row of an error."""
    try:
        found = read_reviews(rows, ["cat", "1"], task)
    except ColumnError as err:
        return [err.row]
    return [number for number in range(len(rows)) if number not in {review.row for review in found.reviews}]


@given(st.lists(rows_of_values, max_size=3), st.sampled_from(get_args(Task)))
def test_rows_of_any_values_are_reviews_or_an_error_that_names_the_row(rows: list[Row], task: Task) -> None:
    assert set(rows_without_reviews(rows, task)) <= set(range(len(rows)))
