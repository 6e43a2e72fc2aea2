"""Labels, ids and names: what each may be, and the errors of what it may not be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats.ids import IdError, id_list
from service.formats.labels import NO_TARGET, ClassNames, LabelError, class_labels, number_labels
from service.formats.part_names import PART_NAMES, NamesError, find_name, first_duplicate

NAMES = ClassNames(["cat", "dog", "2", "1", "a b", " c", "true"])


def objects(*values: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("cat", 0),
        (" cat ", 0),
        ("2", 2),
        ("1", 3),
        ("0", 0),
        ("5", 5),
        ("7", None),
        ("-1", None),
        ("2.0", 2),
        ("1.5", None),
        ("Cat", None),
        (" c", 5),
        ("c", None),
        ("true", 6),
        ("false", 0),
        ("", None),
        ("cat,dog", None),
    ],
)
def test_class_of_a_text(text: str, number: int | None) -> None:
    assert NAMES.find(text) == number


def test_unknown_name_has_suggestions() -> None:
    assert NAMES.unknown("catt") == "'catt' is not the name of a class; similar are 'cat'"
    assert ClassNames(["x", "y"]).unknown("catt") == "'catt' is not the name of a class; the names are 'x', 'y'"


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?"])
def test_classes_of_every_type(dtype: str) -> None:
    got = class_labels(np.array([0, 1, 1], dtype))
    assert (got.tolist(), got.dtype.kind in "iu") == ([0, 1, 1], True)
    assert got.dtype.itemsize == 1 or got.dtype.kind == "i"


def test_classes_of_objects() -> None:
    values = objects("1", " 0 ", 2, True, 1.0, "2.", "TRUE", "1e1", Decimal("3.00"), "+4", "1,0")
    assert class_labels(values).tolist() == [1, 0, 2, 1, 1, 2, 1, 10, 3, 4, 1]
    assert class_labels(objects("dog", "2", 2, "1")[:4], NAMES).tolist() == [1, 2, 2, 3]


BAD: list[tuple[Any, str]] = [
    (objects(0, "cat"), "'cat' is not a number; a label is the number of its class"),
    (objects(0, "1.5"), "integer class indices, got 1.5"),
    (objects(0, None), "no value"),
    (objects(0, " "), "no value"),
    (objects(0, "1,5"), "'1,5' is not a number"),
    (objects(0, "1,000"), "'1,000' is not a number"),
    (objects(0, "9" * 101), "is not a number"),
    (objects(0, 2**63), "got 9223372036854775808"),
    (objects(0, float("nan")), "got NaN"),
    (objects(0, float("-inf")), "got -inf"),
    (np.array([0, 1.5]), "got 1.5"),
    (np.array([0, np.nan], np.float32), "got NaN"),
    (np.array([0, 2**63], np.uint64), "got 9223372036854775808"),
    (np.array([0, 1e300]), "got 1e+300"),
]


@pytest.mark.parametrize(("values", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_no_class(values: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(LabelError) as caught:
        class_labels(values)
    assert (caught.value.row, caught.value.column) == (1, None)
    assert says in caught.value.msg
    assert class_labels(values, exclude=True).tolist() == [0, NO_TARGET]


def test_sigmoid_labels() -> None:
    assert number_labels(objects("0.5", "0,25", True, 1, None), exclude=True).tolist()[:4] == [0.5, 0.25, 1, 1]
    two = objects(0, "1", "x", 1).reshape(2, 2)
    with pytest.raises(LabelError) as caught:
        number_labels(two)
    assert (caught.value.row, caught.value.column) == (1, 0)
    with pytest.raises(LabelError) as caught:
        number_labels(np.array([[0, 1], [1, 2**63]], np.uint64))
    assert (caught.value.row, caught.value.column) == (1, 1)


def test_ids() -> None:
    values = ["007", 7, -(2**63), 2**64 - 1, "é".encode(), Decimal("7.00"), ""]
    assert id_list(values) == ["007", 7, -(2**63), 2**64 - 1, "é", 7, ""]


@pytest.mark.parametrize("value", [None, True, 1.0, 2**64, -(2**63) - 1, b"\xff", Decimal("1.5"), [1], {"a": 1}])
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(IdError) as caught:
        id_list(["a", 1, value])
    assert caught.value.row == 2


@given(names=st.lists(st.sampled_from([name for names in PART_NAMES.values() for name in names]), unique=True))
def test_two_names_of_a_part(names: list[str]) -> None:
    for part, known in PART_NAMES.items():
        found = [name for name in known if name in names]
        if len(found) > 1:
            with pytest.raises(NamesError, match=f"both '{found[0]}' and '{found[1]}'"):
                find_name(part, names)
        else:
            assert find_name(part, names) == (found[0] if found else None)


def test_first_duplicate() -> None:
    assert first_duplicate(["a", "b", "b", "a"]) == "b"
    assert first_duplicate(["a", "b"]) is None
