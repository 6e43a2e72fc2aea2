"""The attributes of the examples of a run as columns of their own, with the types that all of their values have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from service.errors import InvalidRequestError
from service.formats.attributes import MAX_ATTRIBUTES
from service.queries.attributes import json_pointer, last_attributes
from service.queries.sql import quoted
from service.queries.view import View
from service.schema.faults import fault

# The values of a column: of one type, or JSON texts of several.
Kind = Literal["text", "integer", "natural", "float", "boolean", "texts", "pairs", "json"]
_TYPES: dict[str, Kind] = {
    '"NULL"': "text",
    '"VARCHAR"': "text",
    '"UBIGINT"': "integer",
    '"BIGINT"': "integer",
    '"DOUBLE"': "float",
    '"BOOLEAN"': "boolean",
    '["NULL"]': "texts",
    '["VARCHAR"]': "texts",
    '[["UBIGINT"]]': "pairs",
    '[["BIGINT"]]': "pairs",
}
# The value of an attribute, `{}` in JSON, in the type of its column.
_VALUES: dict[Kind, str] = {
    "text": "json_extract_string({}, '$')",
    "integer": "CAST({} AS BIGINT)",
    "natural": "CAST({} AS UBIGINT)",
    "float": "CAST({} AS DOUBLE)",
    "boolean": "CAST({} AS BOOLEAN)",
    "texts": "CAST({} AS VARCHAR[])",
    "pairs": "CAST({} AS BIGINT[][])",
    "json": "CASE WHEN json_type({0}) <> 'NULL' THEN CAST({0} AS VARCHAR) END",
}
# True for a number that its type in `_TYPES` does not hold exactly.
_TOO_LARGE: dict[str, str] = {
    '"UBIGINT"': "CAST({} AS UBIGINT) > 9223372036854775807",
    '"DOUBLE"': "json_type({0}) <> 'DOUBLE' AND abs(CAST({0} AS DOUBLE)) > 9007199254740992",
    '[["UBIGINT"]]': "list_max(flatten(CAST({} AS UBIGINT[][]))) > 9223372036854775807",
}
_IF_TOO_LARGE: dict[str, Kind] = {'"UBIGINT"': "natural", '"DOUBLE"': "json", '[["UBIGINT"]]': "json"}
_JSON_OF_LISTS: tuple[Kind, ...] = ("texts", "pairs")


class AttributeColumn(NamedTuple):
    """An attribute of the examples.

    Args:
        name: Its name.
        kind: The type of its values.
    """

    name: str
    kind: Kind


def attribute_columns(view: View) -> list[AttributeColumn]:
    """The attributes of the examples of a run, by name.

    Raises:
        InvalidRequestError: There are more than MAX_ATTRIBUTES.
    """
    found = view.cached("attribute_columns", lambda: list(_columns(view)))
    return [AttributeColumn(*column) for column in found]


def values_sql(columns: Sequence[AttributeColumn], *, lists_as_text: bool) -> tuple[str, list[str]]:
    """The list of JSON values of an example as a column `found`, and for each attribute an expression of it.

    Args:
        columns: The attributes; at least one.
        lists_as_text: True for lists as JSON texts.
    """
    kinds = ["json" if lists_as_text and column.kind in _JSON_OF_LISTS else column.kind for column in columns]
    return _extracted([column.name for column in columns]), [
        _VALUES[kind].format(f"found[{place}]") for place, kind in enumerate(kinds, start=1)
    ]


def _columns(view: View) -> Iterator[tuple[str, Kind]]:
    names = _names(view)
    if not names:
        return
    source = last_attributes(view)
    structure = view.row(f"SELECT CAST(json_group_structure(attributes::JSON) AS VARCHAR) AS types FROM {source}")
    members = orjson.loads(structure["types"])
    types = [orjson.dumps(members[name]).decode() for name in names]
    too_large = [
        f"coalesce(bool_or({_TOO_LARGE[kind].format(f'found[{place}]')}), false) AS c{place}"
        for place, kind in enumerate(types, start=1)
        if kind in _TOO_LARGE
    ]
    large: dict[str, Any] = {}
    if too_large:
        large = view.row(f"SELECT {', '.join(too_large)} FROM (SELECT {_extracted(names)} FROM {source})")
    for place, (name, kind) in enumerate(zip(names, types, strict=True), start=1):
        yield name, _IF_TOO_LARGE[kind] if large.get(f"c{place}") else _TYPES.get(kind, "json")


def _names(view: View) -> list[str]:
    sql = f"""SELECT DISTINCT unnest(names) AS name FROM (
            SELECT DISTINCT json_keys(attributes) AS names FROM {last_attributes(view)})
        ORDER BY name LIMIT {MAX_ATTRIBUTES + 1}"""
    names = [row["name"] for row in view.rows(sql)]
    if len(names) > MAX_ATTRIBUTES:
        msg = f"the examples have more than {MAX_ATTRIBUTES} different attributes, each of which would be a column"
        raise fault(InvalidRequestError, msg, "query", "attributes")
    return names


def _extracted(names: Sequence[str]) -> str:
    pointers = ", ".join(quoted(json_pointer(name)) for name in names)
    return f"json_extract(attributes, [{pointers}]) AS found"
