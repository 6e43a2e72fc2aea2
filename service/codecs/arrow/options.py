"""The options of a request in the metadata of an Arrow or Parquet schema."""

from __future__ import annotations

import pyarrow as pa

from service.errors import DecodeError
from service.formats.strict_json import read_strict_json
from service.schema.request import DEFAULT_OPTIONS, RequestOptions


def schema_options(schema: pa.Schema, name: str) -> RequestOptions:
    """The options in the JSON under the metadata key `request` of a schema; the defaults without it.

    Args:
        schema: The schema.
        name: Name of the format, for messages.

    Raises:
        DecodeError: The text is not JSON, or has a duplicate name.
        InvalidRequestError: See `RequestOptions.parse`.
    """
    text = (schema.metadata or {}).get(b"request")
    if text is None:
        return DEFAULT_OPTIONS
    try:
        fields = read_strict_json(text)
    except ValueError as err:
        raise DecodeError(f"{name}: schema metadata 'request' is not JSON: {err}") from err
    return RequestOptions.parse(fields)
