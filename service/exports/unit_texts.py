"""Units of structured examples in tables that people edit, and the classes that a unit can have."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from service.exports.class_texts import ClassTexts
from service.exports.rows import LABEL_CLASSES
from service.queries.unit_names import UnitName
from service.schema.structure import Task

EXPECTED: dict[Task, str] = {
    "multi_label": "the number or the name of a label",
    "tokens": "a span of tokens, [start, stop]",
    "masks": "the number of a region",
}


def review_classes(task: Task, class_names: Sequence[str] | None) -> Sequence[str] | None:
    """Names of the classes that a reviewed unit may have: of a label they say if the example has it."""
    return LABEL_CLASSES if task == "multi_label" else class_names


class UnitTexts:
    """The units of the examples of a run, to be found by the values of a table.

    Args:
        task: Task of the run.
        class_names: Names of its classes, of the task `multi_label` of its labels.
    """

    def __init__(self, task: Task, class_names: Sequence[str] | None) -> None:
        self._task = task
        self._numbers = ClassTexts(None)
        self._labels = ClassTexts(class_names if task == "multi_label" else None)

    @property
    def are_read(self) -> bool:
        """True if the examples of the run have units."""
        return self._task in EXPECTED

    def find(self, value: object) -> UnitName:
        """A unit by its JSON value or the text of it, as tables have it, or by the name of a label.

        Digits are the number of a label, also where a label has them as its name, since exports write numbers.

        Raises:
            ValueError: The value is no unit of the task; the message is a clause about the value.
        """
        decoded = _decoded(value)
        match decoded:
            case [int(start), int(stop)] if self._task == "tokens":
                return [start, stop]
            case list():
                pass
            case _ if self._task != "tokens":
                return self._number(decoded)
        raise ValueError(f"{str(value)[:100]!r} is not {EXPECTED[self._task]}")

    def _number(self, value: object) -> int:
        try:
            return self._numbers.find(value)
        except ValueError:
            if self._task == "multi_label":
                return self._labels.find(value)
            raise ValueError(f"{str(value)[:100]!r} is not {EXPECTED[self._task]}") from None


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.strip()
