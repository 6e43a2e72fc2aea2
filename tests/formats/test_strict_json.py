from __future__ import annotations

import json

import pytest
from hypothesis import given

from service.formats.strict_json import MAX_LOOKUPS, read_strict_json
from tests.strategies import json_values


@given(json_values)
def test_same_values_as_json(value: object) -> None:
    assert read_strict_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("names", [MAX_LOOKUPS, MAX_LOOKUPS + 1])
def test_an_object_of_many_names(names: int) -> None:
    value = {f"name-{number}": number for number in range(names)}
    assert read_strict_json(json.dumps(value).encode()) == value


def test_name_with_a_nul() -> None:
    assert read_strict_json(b'{"a\\u0000b": 1, "a": 2}') == {"a\0b": 1, "a": 2}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "\\u0061": 2}',
        '{"x": {"a": 1, "a": 2}}',
        '{"x": [{"a": 1, "a": 2}]}',
        '{"x": [[{"a": 1, "a": 2}]]}',
        '{"n": 18446744073709551616, "a": 1, "a": 2}',
    ],
)
def test_duplicate_names(text: str) -> None:
    with pytest.raises(ValueError, match="duplicate name"):
        read_strict_json(text.encode())
