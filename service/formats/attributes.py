"""Columns of Arrow that are attributes of examples: which types there are, and their values for Python."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from service.errors import InvalidRequestError
from service.schema.faults import fault

SHORTER = {pa.time64("ns"): pa.time64("us"), pa.duration("ns"): pa.duration("us")}


def is_attribute(kind: pa.DataType) -> bool:
    """Whether a column of this type may be an attribute: text, numbers, truth values, times."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_temporal,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    return any(test(plain) for test in tests)


def attribute_values(column: pa.Array | pa.ChunkedArray, name: str) -> list[Any]:
    """The values of a column, None for null; times to the microsecond, which is what Python's types hold.

    Args:
        column: Of a type that `is_attribute`.
        name: Of the column.

    Raises:
        InvalidRequestError: A time that Python has no value for, or an unknown time zone.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif kind in SHORTER:
        column = column.cast(SHORTER[kind], safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as err:
        msg = f"column {name[:100]!r} has a value of {kind} that cannot be read: {err}"
        raise fault(InvalidRequestError, msg, "attributes", name[:100]) from err
    return values
