"""Suggested spans of a sentence, in characters, for labelling tools.

The classes B-, I-, E-, L-, S- and U- of an entity are its parts: tools label the entity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service.diagnostics.elements.tokens import entities
from service.exports.elements import RowUnit
from service.exports.rows import ExportOptions, ExportRow, shown_data
from service.exports.token_texts import TokenText, token_text
from service.schema.json_values import JsonValue

# Classes of the first token of an entity.
FIRST = ("B-", "S-", "U-")


class Span(NamedTuple):
    """A suggested span.

    Args:
        start: First character.
        end: The character after the last one.
        text: The characters.
        label: Entity, or class.
        p: Mean probability of the predictions of the unit; None if it has several labels, or if it is unknown.
    """

    start: int
    end: int
    text: str
    label: str
    p: float | None


def sentence_of(row: ExportRow) -> TokenText | None:
    """The sentence of an example; None if its attributes have none, see `token_text`."""
    return None if row.elements is None else token_text(row.id, row.attributes, row.elements.shape[0])


def shown_text(row: ExportRow, options: ExportOptions) -> JsonValue:
    """The data that a tool shows: of the task `tokens` the sentence, if there is one, else as `shown_data`."""
    sentence = sentence_of(row) if options.task == "tokens" else None
    return shown_data(row, options) if sentence is None else sentence.text


def span_labels(labels: Sequence[str]) -> list[str]:
    """The labels that a span may have, for the names of the classes."""
    return entities(labels)[0]


def suggested_spans(row: ExportRow, options: ExportOptions) -> Iterator[Span]:
    """The spans of the units of an example, one for each entity; none without a sentence."""
    sentence = sentence_of(row)
    if row.elements is None or sentence is None:
        return
    for unit in row.elements.units:
        parts = list(_parts(unit, options))
        for first, stop, label in parts:
            characters = sentence.characters(first, stop)
            if characters is not None:
                text = sentence.text[slice(*characters)]
                yield Span(*characters, text, label, unit.suggested_p if len(parts) == 1 else None)


def _parts(unit: RowUnit, options: ExportOptions) -> Iterator[tuple[int, int, str]]:
    """Neighbouring tokens with the same predicted entity: the first token, the one after the last, and the entity."""
    start = int(unit.places[0])
    for first, stop, label in entity_parts([options.name_of(label) for label in unit.predictions.tolist()]):
        yield start + first, start + stop, label


def entity_parts(names: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Join neighbouring tokens of the same entity.

    Args:
        names: Name of the class of each token.

    Yields:
        The first token, the one after the last, and the entity.
    """
    labels, label_of = entities(names)
    numbers = label_of.tolist()
    first = 0
    for place in range(1, len(names) + 1):
        if place == len(names) or numbers[place] != numbers[first] or names[place].startswith(FIRST):
            yield first, place, labels[numbers[first]]
            first = place
