"""Argilla's flat rows: suggestion, metadata, and nothing that its server refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.exports.argilla import record, suggestion_mapping, write_argilla
from service.exports.rows import TOOL_NAMES, tool_fields
from tests.exports.examples import INFINITE, PLAIN, ROWS, options, whole

SUGGESTION = ["label.suggestion", "label.suggestion.score", "label.suggestion.agent"]


def written(rows: Any) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in whole(write_argilla(rows, options())).split(b"\n")[:-1]]


def test_every_row_reads_back() -> None:
    found = written(ROWS)
    assert [one["id"] for one in found] == [row.id for row in ROWS]
    assert [one["text"] for one in found] == [row.attributes.get("text", row.id) for row in ROWS]
    assert [{name: one[name] for name in TOOL_NAMES.values()} for one in found] == [tool_fields(row) for row in ROWS]
    assert found[1]["nested"] == {"a": [1, None, True]}


def test_the_suggestion_has_value_score_and_agent() -> None:
    found = record(PLAIN, options())
    assert [found[name] for name in SUGGESTION] == ["dog", 0.93, "focal-r-1.a"]
    assert record(INFINITE, options())["label.suggestion.score"] is None


def test_without_another_class_there_is_no_suggestion() -> None:
    assert not [name for name in record(ROWS[2], options()) if name.startswith("label.")]


def test_question_and_field_have_the_names_that_were_given() -> None:
    found = record(PLAIN, options(from_name="topic", to_name="body", data_key="text"))
    assert (found["body"], found["topic.suggestion"]) == ("a barking animal", "dog")
    assert "text" not in found


@pytest.mark.parametrize("name", ["id", "label", "label.suggestion", "rank", "external_id"])
def test_an_attribute_is_never_taken_for_what_argilla_reads(name: str) -> None:
    plain = record(PLAIN, options())
    found = record(replace(PLAIN, attributes=PLAIN.attributes | {name: "mine"}), options())
    assert found == plain | {f"attribute_{name}": "mine"}


def test_the_mapping_maps_what_a_record_has() -> None:
    mapping = suggestion_mapping(options())
    assert mapping == {name: name for name in SUGGESTION}
    assert mapping.keys() <= record(PLAIN, options()).keys()
