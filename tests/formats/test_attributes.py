"""Values of attributes: scalars, lists of texts and lists of pairs of integers, in JSON and in Arrow columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from service.errors import InvalidRequestError
from service.formats.attributes import attribute_values, check_attributes, is_attribute

TOKENS, OFFSETS = [["EU", "rejects"], []], [[[0, 2], [3, 10]], []]


@pytest.mark.parametrize("values", [["a", 1], [1.5, None], [True, False], TOKENS, OFFSETS])
def test_values_that_attributes_can_have(values: list[Any]) -> None:
    assert check_attributes({"a": values}) == {"a": values}


@pytest.mark.parametrize(
    "value",
    [{}, [1], [0.5, 0.25], ["a", None], ["a", [0, 1]], [[0]], [[0, 1, 2]], [[0, True]], [[0, 1.0]], [["a", "b"]]],
)
def test_other_values_are_rejected_with_their_row(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"attribute 'a', row 1: (this list|an object) is no string"):
        check_attributes({"a": ["text", value]})


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array(TOKENS), TOKENS),
        (pa.array(TOKENS, pa.large_list(pa.string())), TOKENS),
        (pa.array(OFFSETS), OFFSETS),
        (pa.array(OFFSETS, pa.list_(pa.list_(pa.int32(), 2))), OFFSETS),
    ],
)
def test_lists_in_columns(column: pa.Array, values: list[Any]) -> None:
    assert is_attribute(column.type)
    assert attribute_values(column, "a") == values


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64(), pa.binary(), pa.list_(pa.string())])
def test_columns_of_vectors_are_no_attributes(kind: pa.DataType) -> None:
    assert not is_attribute(pa.list_(kind))
