"""Units of structured examples as texts: the name of a label, the words of a span, the place of a region."""

from __future__ import annotations

from collections.abc import Sequence

from service.cli.console import class_name
from service.errors import InvalidRequestError
from service.exports.token_texts import token_text
from service.schema.json_values import JsonObject
from service.schema.replies.queues import QueueRow
from service.schema.structure import Task


def unit_text(row: QueueRow, task: Task, names: Sequence[str] | None) -> str:
    """A unit in a few words; empty for a whole example.

    Args:
        row: Row of a queue of a structured run.
        task: Task of the run.
        names: Names of its classes, of the task `multi_label` of its labels.
    """
    unit, box = row["unit"], row["box"]
    if unit is None or box is None:
        return ""
    if isinstance(unit, int) and task == "multi_label":
        return class_name(unit, names)
    (start, *_), (stop, *_) = box
    if task == "tokens":
        place = f"token {start}" if stop - start == 1 else f"tokens {start}-{stop - 1}"
        words = _words(row["id"], row["attributes"], start, stop)
        return place if words is None else f"{place}: {words!r}"
    places = " to ".join(f"[{', '.join(map(str, corner))}]" for corner in box)
    return f"region {unit}, {row['num_elements']} at {places}"


def _words(identity: str, attributes: JsonObject, start: int, stop: int) -> str | None:
    """The text of a span of tokens; None without attributes that tell it."""
    tokens = attributes.get("token_offsets", attributes.get("tokens"))
    try:
        sentence = token_text(identity, attributes, len(tokens)) if isinstance(tokens, list) else None
    except InvalidRequestError:
        return None
    place = None if sentence is None or stop > len(sentence.offsets) else sentence.characters(start, stop)
    return None if sentence is None or place is None else sentence.text[slice(*place)]
