"""The text of a sentence and the places of its tokens, from the attributes of an example.

`text` with `token_offsets`, a pair [start, end] for each token, as tokenizers return them; else `tokens`, texts that
are joined by spaces. Places are numbers of Unicode characters, as in Python, Label Studio and Argilla.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from service.errors import InvalidRequestError
from service.schema.json_values import JsonObject, JsonValue

TEXT, OFFSETS, TOKENS = "text", "token_offsets", "tokens"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A sentence.

    Args:
        text: The text.
        offsets: First character of each token, and the character after its last; equal for a token without a text, such
            as one that marks the start of a sentence.
    """

    text: str
    offsets: Sequence[tuple[int, int]]

    def characters(self, start: int, stop: int) -> tuple[int, int] | None:
        """First character of the tokens from `start` to `stop` and the one after their last; None without any."""
        places = [place for place in self.offsets[start:stop] if place[0] < place[1]]
        return (min(first for first, _ in places), max(end for _, end in places)) if places else None


def token_text(identity: str, attributes: JsonObject, num_tokens: int) -> TokenText | None:
    """Read the sentence of an example; None if it has neither of the attributes.

    Args:
        identity: Id of the example, for errors.
        attributes: Attributes of the example; a list may also be its JSON text.
        num_tokens: Number of tokens of the example.

    Raises:
        InvalidRequestError: The attributes are no tokens or offsets, or not as many as the example has tokens.
    """
    text, offsets, tokens = attributes.get(TEXT), _listed(attributes.get(OFFSETS)), _listed(attributes.get(TOKENS))
    if isinstance(text, str) and offsets is not None:
        name, values, sentence = OFFSETS, offsets, _with_offsets(text, offsets)
    elif tokens is not None:
        name, values, sentence = TOKENS, tokens, _joined(tokens)
    else:
        return None
    if sentence is None:
        kind = "pairs [start, end] in the text" if name == OFFSETS else "strings"
        raise InvalidRequestError(f"example {identity!r}: the attribute {name!r} is not a list of {kind}")
    if len(values) != num_tokens:
        count = f"has {len(values)} values for {num_tokens} tokens"
        raise InvalidRequestError(f"example {identity!r}: the attribute {name!r} {count}")
    return sentence


def _listed(value: JsonValue) -> list[JsonValue] | None:
    """The list of an attribute, None without one; a text that is no JSON list has itself as its only item."""
    if isinstance(value, str):
        try:
            decoded = orjson.loads(value)
        except orjson.JSONDecodeError:
            decoded = None
        return decoded if isinstance(decoded, list) else [value]
    return value if isinstance(value, list) else None


def _joined(tokens: Sequence[JsonValue]) -> TokenText | None:
    texts = [token for token in tokens if isinstance(token, str)]
    if len(texts) < len(tokens):
        return None
    offsets, end = [], -1
    for text in texts:
        offsets.append((end + 1, end + 1 + len(text)))
        end = offsets[-1][1]
    return TokenText(" ".join(texts), offsets)


def _with_offsets(text: str, values: Sequence[JsonValue]) -> TokenText | None:
    offsets = []
    for value in values:
        match value:
            case [int(start), int(end)] if 0 <= start <= end <= len(text):
                offsets.append((start, end))
            case _:
                return None
    return TokenText(text, offsets)
