"""Names of attributes and models, and the data that a tool shows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.exports.rows import TOOL_NAMES, probability, rename_reserved, shown_data
from tests.exports.examples import PLAIN, options

NAMES = st.sampled_from(["rank", "attribute_rank", "attribute_attribute_rank", "reason", "text", ""])


@given(st.dictionaries(NAMES, st.integers()))
def test_no_attribute_is_lost_and_none_has_a_reserved_name(attributes: dict[str, int]) -> None:
    renamed = rename_reserved(attributes, TOOL_NAMES.values())
    assert list(renamed.values()) == list(attributes.values())
    assert not set(renamed) & set(TOOL_NAMES.values())
    assert {
        name: value for name, value in attributes.items() if name not in TOOL_NAMES.values()
    }.items() <= renamed.items()


def test_a_reserved_name_gets_a_prefix() -> None:
    assert rename_reserved({"rank": 1, "attribute_rank": 2}, ["rank"]) == {
        "attribute_attribute_rank": 1,
        "attribute_rank": 2,
    }
    assert rename_reserved({"rank": 1}, ["rank"]) == {"attribute_rank": 1}


@pytest.mark.parametrize("changes", [{"data_key": "reason"}, {"to_name": "rank"}])
def test_data_under_a_reserved_name_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"data_key '(reason|rank)' is a name that the export itself writes"):
        options(**changes)


@given(st.text(max_size=300))
def test_argilla_accepts_the_model_version_as_agent(run: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9\-_:./ ]{1,200}", options(run=run).model_version)


def test_the_model_version_names_run_and_epoch() -> None:
    assert options(run="r-1.a").model_version == "focal-r-1.a/7"


@pytest.mark.parametrize("data", [{}, {"text": None}])
def test_the_id_is_shown_without_data(data: dict[str, Any]) -> None:
    assert shown_data(replace(PLAIN, attributes=data), options()) == "row-17"


def test_the_shown_data_has_the_key_of_the_options() -> None:
    row = replace(PLAIN, attributes={"text": "a", "body": "b"})
    assert [shown_data(row, options()), shown_data(row, options(data_key="body"))] == ["a", "b"]


def test_tokens_are_shown_under_the_name_of_the_field() -> None:
    assert options(task="tokens", to_name="body", data_key="author").shown_key == "body"


@pytest.mark.parametrize("p", [None, float("nan"), float("inf"), -0.1, 1.1])
def test_an_invalid_probability_is_none(p: float | None) -> None:
    assert probability(replace(PLAIN, suggested_p=p)) is None
    assert probability(replace(PLAIN, suggested_p=1.0)) == 1.0
