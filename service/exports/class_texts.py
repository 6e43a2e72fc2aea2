"""Classes in tables that people edit: by name, by number, and as a spreadsheet leaves them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from service.formats.labels import ClassNames
from service.formats.spreadsheets import NUMBER

# A spreadsheet writes these in capitals.
BOOLEANS = ("true", "false")


class ClassTexts:
    """The classes of a run, to be found by the values of a table.

    Args:
        names: Names of the classes, all different; None if they have none.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        self._names = ClassNames(names or ())

    def find(self, value: object) -> int:
        """The index of a class.

        A text is a class name; digits are an index only where no name equals them. A spreadsheet writes `TRUE` for
        `true` and `1` for `1.0` or `01`, so a text that is no name is compared with what it would make of the names.
        Integers and whole floats that are no texts are indices. The index may exceed the number of classes.

        Raises:
            ValueError: The value is no class, or it may be several; the message is a clause about the value.
        """
        if isinstance(value, str):
            named = self._names.named(value)
            if named is not None:
                return named
            similar = self._similar.get(_in_spreadsheet(value), [])
            if len(similar) > 1:
                found = " or ".join(repr(self._names.names[index]) for index in similar)
                raise ValueError(f"{value[:100]!r} may be {found}")
            if similar:
                return similar[0]
        number = _whole_number(value)
        if number is None:
            if self._names.names:
                raise ValueError(self._names.unknown(str(value)))
            raise ValueError(f"{str(value)[:100]!r} is not the number of a class, and the run has no class names")
        return number

    @cached_property
    def _similar(self) -> dict[str | float, list[int]]:
        similar = defaultdict(list)
        for index, name in enumerate(self._names.names):
            similar[_in_spreadsheet(name)].append(index)
        return similar


def _in_spreadsheet(text: str) -> str | float:
    """The value of a text in a spreadsheet: a number, a boolean in capitals, or the text."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        return float(text)
    return text.upper() if text.lower() in BOOLEANS else text


def _whole_number(value: object) -> int | None:
    if isinstance(value, str):
        value = float(value) if NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53 or value % 1:
        return None
    return int(value)
