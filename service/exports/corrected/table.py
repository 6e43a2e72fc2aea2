"""The corrected data set as Arrow record batches: a row for each example, with the attributes in columns of their own.

The rows have the same order however the examples were sent: ids that are integers by number, then all others by code
points. So equal data and reviews give an equal file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from service.exports.corrected.attribute_columns import AttributeColumn, attribute_columns, values_sql
from service.exports.corrected.decisions import all_reviews, comments_of, decide, reviewers_of
from service.exports.rows import rename_reserved
from service.formats.spreadsheets import guard
from service.queries.attributes import last_attributes
from service.queries.sql import LATEST
from service.queries.view import View
from service.runs.review_history import Verdicts
from service.runs.units import WHOLE

LABEL_COLUMNS = ("label", "label_index", "given_label", "given_label_index")
REVIEW_COLUMNS = ("status", "reviewers", "comment")
# Less than the usual 65 536, as all rows of a group with their attributes are in memory until it is written.
ROWS_AT_ONCE = 16_384
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
        batches: The rows, in batches of ROWS_AT_ONCE; the last one may be smaller.
        schema: Their columns: the id, the attributes, LABEL_COLUMNS and REVIEW_COLUMNS.
        json_columns: Columns of JSON texts.
        attributes: Columns of attributes.
    """

    batches: Iterator[pa.RecordBatch]
    schema: pa.Schema
    json_columns: frozenset[str]
    attributes: tuple[str, ...]


def corrected_table(view: View, verdicts: Verdicts, layout: Layout) -> CorrectedTable:
    """The examples of a run with one class each.

    An example of several epochs has the target and the attributes that were sent last.

    Args:
        view: The run.
        verdicts: The reviews that count.
        layout: The form of the rows.
    """
    columns = attribute_columns(view) if layout.with_attributes else []
    names = _column_names(columns)
    batches = _regrouped(view.batches(_sql(view, columns, _register(view, verdicts, layout), layout)), names)
    first = next(batches)
    texts = frozenset(name for name, column in zip(names[1:], columns, strict=False) if column.kind == "json")
    return CorrectedTable(
        itertools.chain([first] if len(first) else [], batches),
        first.schema,
        frozenset() if layout.flat else texts,
        tuple(names[1 : len(columns) + 1]),
    )


def _column_names(columns: list[AttributeColumn]) -> list[str]:
    reserved = ("id", *LABEL_COLUMNS, *REVIEW_COLUMNS)
    attributes = rename_reserved(dict.fromkeys(column.name for column in columns), reserved)
    return ["id", *attributes, *LABEL_COLUMNS, *REVIEW_COLUMNS]


def _register(view: View, verdicts: Verdicts, layout: Layout) -> str:
    """Name of a table of the decisions on examples."""
    rows = {key.id: standing for key, standing in verdicts.items() if key.unit == WHOLE}
    decisions, reviews = map(decide, rows.values()), [all_reviews(standing) for standing in rows.values()]
    reviewers, comments = [reviewers_of(listed) for listed in reviews], map(comments_of, reviews)
    statuses, labels = zip(*decisions, strict=True) if rows else ((), ())
    columns = {
        "id": pa.array(rows, pa.string()),
        "decided": pa.array(statuses, pa.string()),
        "right_label": pa.array(labels, pa.int32()),
        "reviewers": pa.array(reviewers, pa.list_(pa.string())),
        "comment": pa.array(comments, pa.string()),
    }
    if layout.flat:
        joined = [guard(SEPARATOR.join(listed)) or None for listed in reviewers]
        columns["reviewers"] = pa.array(joined, pa.string())
        columns["comment"] = pa.array([text and guard(text) for text in columns["comment"].to_pylist()], pa.string())
    return _registered(view, pa.table(columns))


def _sql(view: View, columns: list[AttributeColumn], decisions: str, layout: Layout) -> str:
    """The query of the columns of `_column_names`, without their names: SQL does not tell `A` from `a`."""
    extracted, values = values_sql(columns, lists_as_text=layout.flat) if columns else ("NULL AS found", [])
    attributes = last_attributes(view) if columns else "(SELECT NULL::VARCHAR AS id, NULL AS attributes LIMIT 0)"
    last = f"(SELECT id, arg_max(target, {LATEST}) AS target FROM {view.stored()} GROUP BY id)"
    labels = "label_index, label_index, target, target"
    joined = ""
    names = view.snapshot.description.class_names
    if names is not None:
        classes = _registered(view, pa.table({"number": pa.array(range(len(names)), pa.int32()), "name": list(names)}))
        labels = "used.name, label_index, given.name, target"
        joined = f"""LEFT JOIN {classes} used ON used.number = label_index
            LEFT JOIN {classes} given ON given.number = target"""
    reviewers = "reviewers" if layout.flat else "coalesce(reviewers, [])"
    selected = ", ".join(
        f"{value} AS c{place}"
        for place, value in enumerate(["id", *values, *labels.split(", "), "status", reviewers, "comment"])
    )
    return f"""SELECT {selected} FROM (
            SELECT *, CASE WHEN decided IS NULL THEN 'unreviewed' WHEN decided = 'corrected' AND right_label = target
                THEN 'kept' ELSE decided END AS status,
                CASE WHEN status = 'corrected' THEN right_label WHEN status IN ('kept', 'unreviewed') THEN target END
                AS label_index
            FROM {last} LEFT JOIN (SELECT id, {extracted} FROM {attributes}) USING (id)
            LEFT JOIN {decisions} USING (id)) {joined}
        ORDER BY {ID_ORDER}"""


def _registered(view: View, table: pa.Table) -> str:
    name = f"corrected_{next(_numbers)}"
    view.cursor.register(name, table)
    return name


def _regrouped(batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of ROWS_AT_ONCE with other names of columns; there is one at least, and the last one may be smaller."""
    pending = pa.Table.from_batches([next(batches)])
    for batch in batches:
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
        while len(pending) > ROWS_AT_ONCE:
            yield _renamed(pending.slice(0, ROWS_AT_ONCE), names)
            pending = pending.slice(ROWS_AT_ONCE)
    yield _renamed(pending, names)


def _renamed(rows: pa.Table, names: list[str]) -> pa.RecordBatch:
    arrays = [column.combine_chunks() for column in rows.columns]
    return pa.record_batch(arrays, names)
