"""Ids of examples: texts, and integers of 64 bits, signed or unsigned. One rule for every format."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from service.errors import InvalidIdsError
from service.schema.faults import fault

MIN_ID, MAX_ID = -(2**63), 2**64 - 1
MAX_TEXT = 100


class IdError(ValueError):
    """A value that cannot be an id.

    Args:
        msg: Describes the error.
        row: Row of the value, from 0.
    """

    def __init__(self, msg: str, row: int) -> None:
        super().__init__(msg)
        self.msg = msg
        self.row = row


def id_list(values: Iterable[Any]) -> list[str | int]:
    """Convert values to ids.

    Args:
        values: Strings; integers in [-2^63, 2^64); bytes, read as UTF-8; whole decimals.

    Raises:
        IdError: Any other value; names the first one.
    """
    ids = list(values)
    kinds = set(map(type, ids))
    if kinds <= {str}:
        return ids
    if kinds <= {str, int} and all(type(value) is str or MIN_ID <= value <= MAX_ID for value in ids):
        return ids
    return [_id(value, row) for row, value in enumerate(ids)]


def ids_of_batch(values: Iterable[Any], number: int) -> list[str | int]:
    """Convert values to the ids of a batch; see `id_list`.

    Args:
        values: The ids, one for each row.
        number: Number of the batch, for messages.

    Raises:
        InvalidIdsError: A value that cannot be an id; names batch and row.
    """
    try:
        return id_list(values)
    except IdError as err:
        raise fault(InvalidIdsError, err.msg, "ids", batch=number, row=err.row) from err


def _id(value: Any, row: int) -> str | int:
    if type(value) is str:
        return value
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError as err:
            raise IdError(f"an id of bytes is UTF-8, got {value[:MAX_TEXT]!r}", row) from err
    if type(value) is Decimal and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if type(value) is int and MIN_ID <= value <= MAX_ID:
        return value
    if type(value) is int:
        raise IdError(f"an integer id has 64 bits, got {str(value)[:MAX_TEXT]}", row)
    raise IdError(f"an id is a string or an integer, got {described(value)}", row)


def described(value: Any) -> str:
    """A value in a message, as JSON spells it; its kind if it is a list or an object."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    constants = {None: "null", True: "true", False: "false"}
    return constants[value] if value is None or isinstance(value, bool) else repr(value)[:MAX_TEXT]
