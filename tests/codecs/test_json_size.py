"""The number of values in a JSON text."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.json_size import MAX_VALUES, check_size, count_values
from service.errors import TooManyValuesError

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('a"\\,:[{}] ', max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text('a",:{', max_size=3), inner))


def expected(value: Any) -> int:
    """Values and names, and one more for each list and object that is empty."""
    match value:
        case list():
            return 1 + (sum(map(expected, value)) or 1)
        case dict():
            return 1 + (sum(1 + expected(item) for item in value.values()) or 1)
        case _:
            return 1


@given(values)
def test_it_is_the_number_of_the_decoded_values(value: Any) -> None:
    assert count_values(orjson.dumps(value)) == expected(value)


@pytest.mark.parametrize("text", [b"", b'"', b'"\\', b"\xff\xff", b"]]]"])
def test_what_is_not_json_has_a_number_too(text: bytes) -> None:
    assert count_values(text) == 1


@pytest.mark.parametrize("item", [b"1,", b"[],", b"{},", b'{"a":1},'])
def test_too_many_values_are_refused(item: bytes) -> None:
    most = MAX_VALUES // (count_values(item) - 1)
    check_size(memoryview(b"[" + item * (most - 3) + b"1]"))
    with pytest.raises(TooManyValuesError, match=f"the limit is {MAX_VALUES}"):
        check_size(b"[" + item * (most + 1) + b"1]")


def test_the_commas_of_a_text_are_not_values() -> None:
    check_size(b'["' + b",:[{" * MAX_VALUES + b'"]')
