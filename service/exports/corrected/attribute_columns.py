"""The attributes of the examples of a run as columns of their own, with the types that all of their values have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from service.errors import InvalidRequestError
from service.formats.attributes import MAX_ATTRIBUTES
from service.queries.attributes import json_pointer, last_attributes
from service.queries.sql import numbered, quoted
from service.queries.view import View
from service.schema.faults import fault

# The values of a column: of one type, or JSON texts of several.
Kind = Literal["text", "integer", "natural", "float", "boolean", "texts", "pairs", "json"]
# The kind of columns whose values have no other types than these, as DuckDB's json_structure writes them.
_KINDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("text", frozenset({'"VARCHAR"'})),
    ("integer", frozenset({'"UBIGINT"', '"BIGINT"'})),
    ("float", frozenset({'"UBIGINT"', '"BIGINT"', '"DOUBLE"'})),
    ("boolean", frozenset({'"BOOLEAN"'})),
    ("texts", frozenset({'["NULL"]', '["VARCHAR"]'})),
    ("pairs", frozenset({'["NULL"]', '[["UBIGINT"]]', '[["BIGINT"]]', '[["HUGEINT"]]'})),
)
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
# A number that is too large is null here.
_PAIRS = "TRY_CAST({0} AS BIGINT[][])"
# True for a number that the kind does not hold exactly, and the kind that does.
_TOO_LARGE: dict[Kind, tuple[str, Kind]] = {
    "integer": ("TRY_CAST({} AS UBIGINT) > 9223372036854775807", "natural"),
    "natural": ("json_type({}) = 'BIGINT'", "json"),
    "float": ("json_type({0}) <> 'DOUBLE' AND abs(CAST({0} AS DOUBLE)) >= 9007199254740992", "json"),
    "pairs": (f"list_count(flatten({_PAIRS})) < len(flatten({_PAIRS}))", "json"),
}
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
    source = f"(SELECT {_extracted(names)} FROM {last_attributes(view)})"
    types = [f"list(DISTINCT CAST(json_structure(found[{place + 1}]) AS VARCHAR))" for place in range(len(names))]
    found = view.row(f"SELECT {numbered(types)} FROM {source}")
    kinds = [_kind_of(found[f"c{place}"]) for place in range(len(names))]
    # A natural number may be negative in another row, so there are up to two changes.
    for _ in range(2):
        tests = {place: _TOO_LARGE[kind][0] for place, kind in enumerate(kinds) if kind in _TOO_LARGE}
        if tests:
            exceeds = [
                f"coalesce(bool_or({test.format(f'found[{place + 1}]')}), false)" for place, test in tests.items()
            ]
            row = view.row(f"SELECT {numbered(exceeds)} FROM {source}")
            for place, too_large in zip(tests, row.values(), strict=True):
                kinds[place] = _TOO_LARGE[kinds[place]][1] if too_large else kinds[place]
    yield from zip(names, kinds, strict=True)


def _kind_of(types: Collection[str | None]) -> Kind:
    """The kind of a column with values of these types; None if an example lacks the attribute."""
    known = set(types) - {'"NULL"', None}
    return next((kind for kind, of_kind in _KINDS if known <= of_kind), "json")


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
