"""Attributes of examples: their types and values in Arrow columns, and in JSON.

A value is a text, a number, a boolean, a time, or a list of texts or pairs of integers, such as the tokens of a
sentence and their offsets in its text. Lists of numbers are refused, so that no file fills a run with embeddings.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from service.errors import InvalidRequestError, TooManyAttributesError
from service.formats.arrow_types import innermost_type, is_list, num_levels, plain, plain_type
from service.schema.faults import fault

MAX_ATTRIBUTES = 1000
LISTS = "list of strings or list of pairs of integers"
TEXTS = (pa.string(), pa.large_string())
# Units that Python's types cannot hold, and the finest that they can.
MICROSECONDS = {pa.time64("ns"): pa.time64("us"), pa.duration("ns"): pa.duration("us")}


def is_attribute(kind: pa.DataType) -> bool:
    """True if a column of this type can be an attribute: a scalar, or a list of texts or of pairs of integers."""
    value = plain_type(kind)
    if is_list(value):
        levels, item = num_levels(value), innermost_type(value)
        return pa.types.is_integer(item) if levels == 2 else levels == 1 and item in TEXTS
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_temporal,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    return any(test(value) for test in tests)


def attribute_values(column: pa.Array | pa.ChunkedArray, name: str) -> list[Any]:
    """Convert a column to Python values: None for null, times to the microsecond.

    Args:
        column: Its type is one that `is_attribute` accepts.
        name: Name of the column.

    Raises:
        InvalidRequestError: A time that Python cannot represent, an unknown time zone, or a list of other items.
    """
    column = plain(column)
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif kind in MICROSECONDS:
        column = column.cast(MICROSECONDS[kind], safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as err:
        msg = f"column {name[:100]!r} has a value of {kind} that cannot be read: {err}"
        raise fault(InvalidRequestError, msg, "attributes", name[:100]) from err
    if is_list(kind):
        check_attributes({name: values})
    return values


def check_attribute_count(count: int) -> None:
    """Check the number of attributes of an example.

    Raises:
        TooManyAttributesError: There are more than MAX_ATTRIBUTES.
    """
    if count > MAX_ATTRIBUTES:
        raise TooManyAttributesError(f"{count} attributes, at most {MAX_ATTRIBUTES} are accepted: leave columns out")


def check_attributes(value: Any) -> dict[str, list[Any]] | None:
    """Check attributes from JSON: null, or an object of lists of strings, numbers, booleans, nulls and such lists.

    Raises:
        InvalidRequestError: Anything else; names the attribute and the row.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        detail = "attributes is an object of lists"
        raise fault(InvalidRequestError, "not an object of lists", "attributes", detail=detail)
    check_attribute_count(len(value))
    for name, values in value.items():
        if not isinstance(values, list):
            detail = f"attribute {name[:100]!r} is a list with one value per example"
            raise fault(InvalidRequestError, "not a list", "attributes", name[:100], detail=detail)
        for row, item in enumerate(values):
            if isinstance(item, list | dict) and not is_list_value(item):
                kind = "this list" if isinstance(item, list) else "an object"
                msg = f"attribute {name[:100]!r}, row {row}: {kind} is no string, number, boolean, null, {LISTS}"
                raise fault(InvalidRequestError, msg, "attributes", name[:100], row)
    return value


def is_list_value(value: object) -> bool:
    """True for a list of texts, or of pairs of integers."""
    return isinstance(value, list) and (all(isinstance(item, str) for item in value) or all(map(_is_pair, value)))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)
