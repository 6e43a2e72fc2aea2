"""Argilla's flat records: suggestion, metadata, and no name that Argilla would misread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.exports.argilla import record, suggestion_mapping, write_argilla
from service.exports.rows import TOOL_NAMES, tool_fields
from tests.exports.examples import INFINITE, PLAIN, ROWS, options, whole

SUGGESTION = ["label.suggestion", "label.suggestion.score", "label.suggestion.agent"]


def records_of(rows: Any) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in whole(write_argilla(rows, options())).split(b"\n")[:-1]]


def test_every_row_can_be_read_back() -> None:
    records = records_of(ROWS)
    assert [item["id"] for item in records] == [row.id for row in ROWS]
    assert [item["text"] for item in records] == [row.attributes.get("text", row.id) for row in ROWS]
    assert [{name: item[name] for name in TOOL_NAMES.values()} for item in records] == [
        tool_fields(row) for row in ROWS
    ]
    assert records[1]["nested"] == {"a": [1, None, True]}


def test_the_suggestion_has_value_score_and_agent() -> None:
    result = record(PLAIN, options())
    assert [result[name] for name in SUGGESTION] == ["dog", 0.93, "focal-r-1.a/7"]
    assert record(INFINITE, options())["label.suggestion.score"] is None


def test_without_another_class_there_is_no_suggestion() -> None:
    assert not [name for name in record(ROWS[2], options()) if name.startswith("label.")]


def test_question_and_field_have_the_names_of_the_options() -> None:
    result = record(PLAIN, options(from_name="topic", to_name="body", data_key="text"))
    assert (result["body"], result["topic.suggestion"]) == ("a barking animal", "dog")
    assert "text" not in result


@pytest.mark.parametrize("name", ["id", "label", "label.suggestion", "rank", "external_id"])
def test_an_attribute_with_a_reserved_name_is_renamed(name: str) -> None:
    plain = record(PLAIN, options())
    result = record(replace(PLAIN, attributes=PLAIN.attributes | {name: "mine"}), options())
    assert result == plain | {f"attribute_{name}": "mine"}


def test_the_mapping_names_members_of_a_record() -> None:
    mapping = suggestion_mapping(options())
    assert mapping == {name: name for name in SUGGESTION}
    assert mapping.keys() <= record(PLAIN, options()).keys()
