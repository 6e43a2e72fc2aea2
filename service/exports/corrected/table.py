"""The corrected data set as Arrow record batches: what runs of all tasks share.

The rows have the same order however the examples were sent: ids that are integers by number, then all others by code
points. So equal data and reviews give an equal file.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from service.exports.corrected.attribute_columns import AttributeColumn, attribute_columns, values_sql
from service.exports.rows import rename_reserved
from service.formats.spreadsheets import guard
from service.queries.attributes import last_attributes
from service.queries.view import View

REVIEW_COLUMNS = ("status", "reviewers", "comment")
ID_ORDER = "CASE WHEN regexp_full_match(id, '-?[0-9]{1,18}') THEN CAST(id AS BIGINT) END NULLS LAST, id"
SEPARATOR = ", "

_numbers = itertools.count()


class Layout(NamedTuple):
    """The form of the rows.

    Args:
        with_attributes: False to leave out the attributes.
        flat: True for lists as texts, and texts of reviewers that no spreadsheet evaluates as a formula.
    """

    with_attributes: bool = True
    flat: bool = False


@dataclass(frozen=True, eq=False)
class CorrectedTable:
    """The rows of a corrected data set.

    Args:
        batches: The rows.
        schema: Their columns: the id, the attributes, the labels and REVIEW_COLUMNS.
        json_columns: Columns of JSON texts.
    """

    batches: Iterator[pa.RecordBatch]
    schema: pa.Schema
    json_columns: frozenset[str]

    @classmethod
    def of(cls, batches: Iterator[pa.RecordBatch], json_columns: frozenset[str]) -> CorrectedTable:
        """The table of batches, of which there is one at least; the first one may be empty."""
        first = next(batches)
        return cls(itertools.chain([first] if len(first) else [], batches), first.schema, json_columns)


class AttributeSql(NamedTuple):
    """The attributes of the examples in SQL.

    Args:
        source: A subquery of the ids and `found`, the values of the examples that have attributes.
        values: An expression of `found` for each attribute.
        names: Names of the columns.
        json_columns: Columns of JSON texts.
    """

    source: str
    values: list[str]
    names: list[str]
    json_columns: frozenset[str]


def attribute_sql(view: View, layout: Layout, others: Collection[str]) -> AttributeSql:
    """The attributes of the examples of a run.

    Args:
        view: The run.
        layout: The form of the rows.
        others: Names of the other columns; an attribute of such a name is renamed to `attribute_<name>`.
    """
    columns: Sequence[AttributeColumn] = attribute_columns(view) if layout.with_attributes else []
    if not columns:
        return AttributeSql("(SELECT NULL::VARCHAR AS id, NULL AS found LIMIT 0)", [], [], frozenset())
    names = list(rename_reserved(dict.fromkeys(column.name for column in columns), others))
    extracted, values = values_sql(columns, lists_as_text=layout.flat)
    texts = frozenset(name for name, column in zip(names, columns, strict=True) if column.kind == "json")
    source = f"(SELECT id, {extracted} FROM {last_attributes(view)})"
    return AttributeSql(source, values, names, frozenset() if layout.flat else texts)


def flat_texts(reviewers: Sequence[Sequence[str]], comments: Sequence[str | None]) -> tuple[pa.Array, pa.Array]:
    """Reviewers and comments as texts that a spreadsheet does not evaluate; null for none."""
    joined = [guard(SEPARATOR.join(listed)) or None for listed in reviewers]
    return pa.array(joined, pa.string()), pa.array([text and guard(text) for text in comments], pa.string())


def registered(view: View, table: pa.Table) -> str:
    """Name of a table in SQL."""
    name = f"corrected_{next(_numbers)}"
    view.cursor.register(name, table)
    return name


def regrouped(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of `rows` rows; there is one at least, and the last one may be smaller."""
    pending = pa.Table.from_batches([next(batches)])
    for batch in batches:
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
        while len(pending) > rows:
            yield _one_batch(pending.slice(0, rows))
            pending = pending.slice(rows)
    yield _one_batch(pending)


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return pa.record_batch([column.combine_chunks() for column in rows.columns], schema=rows.schema)
