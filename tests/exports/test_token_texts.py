"""Spans of tokens as characters of their sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.exports.token_texts import TokenText, token_text

TEXT = {"text": "\U0001f408 naïve-ly", "token_offsets": [[0, 0], [0, 1], [2, 7], [7, 10], [0, 0]]}


def sentence(attributes: dict[str, Any], num_tokens: int) -> TokenText:
    read = token_text("a", attributes, num_tokens)
    assert read is not None
    return read


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.data())
def test_the_characters_of_a_span_are_its_tokens_with_spaces(tokens: list[str], data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, len(tokens)))
    start = data.draw(st.integers(0, stop - 1))
    read = sentence({"tokens": tokens, "text": "is not read without offsets"}, len(tokens))
    first, end = read.characters(start, stop) or (0, 0)
    assert read.text[first:end] == " ".join(tokens[start:stop])


@pytest.mark.parametrize(
    ("span", "text"), [((1, 2), "\U0001f408"), ((2, 4), "naïve-ly"), ((0, 3), "\U0001f408 naïve"), ((3, 5), "-ly")]
)
def test_offsets_of_a_tokenizer(span: tuple[int, int], text: str) -> None:
    read = sentence(TEXT, 5)
    first, end = read.characters(*span) or (0, 0)
    assert read.text[first:end] == text


def test_a_token_without_a_text_has_no_characters() -> None:
    assert sentence(TEXT, 5).characters(0, 1) is None


@pytest.mark.parametrize(
    "attributes", [{}, {"text": "a b"}, {"tokens": None}, {"token_offsets": [[0, 1]]}, {"tokens": 3}]
)
def test_an_example_without_tokens(attributes: dict[str, Any]) -> None:
    assert token_text("a", attributes, 2) is None


def test_lists_may_be_json_texts() -> None:
    assert sentence({"tokens": '["a", "b"]'}, 2).text == "a b"
    assert sentence({"tokens": "[UNK]"}, 1).text == "[UNK]"
    assert sentence({"text": "ab", "token_offsets": "[[0, 1], [1, 2]]"}, 2).offsets == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"tokens": ["a"]}, "the attribute 'tokens' has 1 values for 2 tokens"),
        ({"tokens": ["a", 1]}, "the attribute 'tokens' is not a list of strings"),
        ({"text": "ab", "token_offsets": [[0, 1]]}, "the attribute 'token_offsets' has 1 values for 2 tokens"),
        ({"text": "ab", "token_offsets": [[0, 1], [1, 3]]}, r"is not a list of pairs \[start, end\] in the text"),
        ({"text": "ab", "token_offsets": [[0, 1], [2, 1]]}, r"is not a list of pairs \[start, end\] in the text"),
        ({"text": "ab", "token_offsets": [[0, 1], [1]]}, r"is not a list of pairs \[start, end\] in the text"),
    ],
)
def test_an_error_names_example_and_attribute(attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"example 'x': .*{says}"):
        token_text("x", attributes, 2)
