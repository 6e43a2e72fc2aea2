"""Labels as people send them: numbers of classes in any type, texts, names of classes. One rule for every format.

A class is named by its number, counted from 0: an integer of any type, a boolean, a whole float, or one of these as a
text (`1`, `1.0`, `true`). Where the names of the classes are known, a text that equals a name is that class, and only
another text is read as a number. Sigmoid labels are the same, and numbers between 0 and 1.

Imports only numpy.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from service.schema.request import Column

# Label of a row without a valid one: neither a class nor a sensible ignore_index.
NO_TARGET = -(2**63)
MAX_TEXT = 100
NAMES_SHOWN = 10
# A comma is a decimal mark only where it cannot separate thousands.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?|[+-]?(\d+,0|0,\d+)", re.ASCII)
BOOLEANS = {"true": 1, "false": 0}


class LabelError(ValueError):
    """A label that is neither a class nor, in sigmoid mode, a number.

    Args:
        msg: Describes the error.
        row: Row in the array, from 0.
        column: Column in the row; None for labels (N,).
    """

    def __init__(self, msg: str, row: int, column: int | None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.row = row
        self.column = column


class ClassNames:
    """The names of classes, to find the class of a text.

    Args:
        names: A name for each class, all different.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def _classes(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def find(self, text: str) -> int | None:
        """The class of a text: the one of this name, else the one of this number; None if there is neither."""
        label = label_of_text(text, self)
        return label if isinstance(label, int) and 0 <= label < len(self.names) else None

    def named(self, text: str) -> int | None:
        """The class of this name; spaces around a name do not count, unless they are part of a name."""
        number = self._classes.get(text)
        return self._classes.get(text.strip()) if number is None else number

    def unknown(self, text: str) -> str:
        """The message for a text that is no class: names the closest names, or the first ones."""
        close = difflib.get_close_matches(text[:MAX_TEXT], self.names[:1000], n=3)
        shown = close or self.names[:NAMES_SHOWN]
        listed = ", ".join(repr(name[:MAX_TEXT]) for name in shown)
        all_names = f"the names are {listed}" + (", ..." if len(shown) < len(self.names) else "")
        is_part = close and len(close) < len(self.names)
        return f"{text[:MAX_TEXT]!r} is not the name of a class; {f'similar are {listed}' if is_part else all_names}"


def label_of_text(text: str, names: ClassNames | None = None) -> int | float | None:
    """The label that a text stands for; None if it is neither a name nor a number."""
    if names is not None and (number := names.named(text)) is not None:
        return number
    text = text.strip()
    if len(text) <= MAX_TEXT and NUMBER.fullmatch(text):
        value = float(text.replace(",", "."))
        return int(text) if text.lstrip("+-").isdigit() else int(value) if value.is_integer() else value
    return BOOLEANS.get(text.lower())


def class_labels(values: Column, names: ClassNames | None = None, *, exclude: bool = False) -> Column:
    """Convert labels (N,) of classes to integers.

    Args:
        values: Integers, booleans, floats, or objects: texts, numbers, booleans and None.
        names: Names of the classes.
        exclude: Convert what is no label to NO_TARGET instead of raising.

    Returns:
        (N,) of a signed integer type or uint8. Arrays of these types are returned unchanged.

    Raises:
        LabelError: A value that is no integer; names the first one.
    """
    if values.dtype.kind == "O":
        return _of_objects(values, names, whole=True, exclude=exclude)
    if values.dtype.kind in "iub":
        return _of_integers(values, exclude=exclude)
    numbers = values.astype(np.float64, copy=False)
    bad = (numbers != np.trunc(numbers)) | ~(np.abs(numbers) < 2.0**63)
    if bad.any() and not exclude:
        row = int(bad.argmax())
        raise LabelError(_not_a_class(float(numbers[row])), row, None)
    return np.where(bad, 0, numbers).astype(np.int64) + np.where(bad, NO_TARGET, 0)


def number_labels(values: Column, names: ClassNames | None = None, *, exclude: bool = False) -> Column:
    """Convert sigmoid labels (N,) or (N, L) to integers or floats.

    Args:
        values: As for `class_labels`, and (N, L).
        names: Names of the two classes.
        exclude: Convert what is no number to NaN instead of raising.

    Returns:
        The numbers, not yet checked to lie in [0, 1].

    Raises:
        LabelError: A value that is no number; names the first one.
    """
    if values.dtype.kind == "O":
        return _of_objects(values, names, whole=False, exclude=exclude)
    return _of_integers(values, exclude=exclude) if values.dtype.kind in "iub" else values


def _of_integers(values: Column, *, exclude: bool) -> Column:
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind == "i" or values.itemsize == 1:
        return values
    if values.dtype == np.uint64:
        large = values >= 2**63
        if large.any() and not exclude:
            row, *column = np.unravel_index(int(large.argmax()), values.shape)
            raise LabelError(_not_a_class(int(values[large][0])), int(row), int(column[0]) if column else None)
        if large.any():
            values = np.where(large, np.uint64(2**63), values)
    # torch has no arithmetic for wider unsigned integers. 2**63 wraps to NO_TARGET.
    return values.astype(np.int64)


def _of_objects(values: Column, names: ClassNames | None, *, whole: bool, exclude: bool) -> Column:
    flat = values.ravel().tolist()
    labels = {value: _label(value, names, whole=whole) for value in set(flat)}
    bad = {value for value, label in labels.items() if isinstance(label, str)}
    if bad and not exclude:
        position = next(position for position, value in enumerate(flat) if value in bad)
        row, column = divmod(position, values.shape[1]) if values.ndim > 1 else (position, None)
        raise LabelError(str(labels[flat[position]]), row, column)
    missing = NO_TARGET if whole else np.nan
    labels |= dict.fromkeys(bad, missing)
    numbers = [labels[value] for value in flat]
    kind = np.int64 if whole else np.float64
    return np.array(numbers, kind).reshape(values.shape)


def _label(value: Any, names: ClassNames | None, *, whole: bool) -> int | float | str:
    """The label of a value, or a message if it is none."""
    number: object = value
    if isinstance(value, str):
        number = label_of_text(value, names)
        if number is None and not value.strip():
            return "no value (null)"
        if number is None:
            return names.unknown(value) if names is not None else _not_a_number(repr(value[:MAX_TEXT]))
    if number is None:
        return "no value (null)"
    if isinstance(number, Decimal) and number.is_finite():
        number = int(number) if number == number.to_integral_value() else float(number)
    if not isinstance(number, bool | int | float):
        return _not_a_number(str(number)[:MAX_TEXT])
    if not whole:
        return float(number)
    is_class = -(2.0**63) <= number < 2.0**63 and number == int(number)
    return int(number) if is_class else _not_a_class(number)


def _not_a_number(shown: str) -> str:
    return f"{shown} is not a number; a label is the number of its class, counted from 0, or a class name of the run"


def _not_a_class(number: float) -> str:
    shown = "NaN" if math.isnan(number) else f"{number:+}" if math.isinf(number) else f"{number}"
    return f"softmax targets are integer class indices, got {shown}"
