"""The corrected data set of a run with one class an example."""

from __future__ import annotations

import pyarrow as pa

from service.exports.corrected.table import (
    ID_ORDER,
    REVIEW_COLUMNS,
    CorrectedTable,
    Layout,
    attribute_sql,
    flat_texts,
    registered,
    regrouped,
)
from service.queries.last_rows import last_values
from service.queries.sql import numbered
from service.queries.view import View

LABEL_COLUMNS = ("label", "label_index", "given_label", "given_label_index")
# Less than the usual 65 536, as all rows of a group with their attributes are in memory until it is written.
ROWS_AT_ONCE = 16_384


def class_table(view: View, decisions: pa.Table, layout: Layout) -> CorrectedTable:
    """The examples of a run with one class each.

    An example of several epochs has the target and the attributes that were sent last.

    Args:
        view: The run.
        decisions: The decisions on labels; see `service.exports.corrected.decisions.DECISIONS`.
        layout: The form of the rows.
    """
    attributes = attribute_sql(view, layout, ("id", *LABEL_COLUMNS, *REVIEW_COLUMNS))
    names = ["id", *attributes.names, *LABEL_COLUMNS, *REVIEW_COLUMNS]
    if layout.flat:
        texts = flat_texts(decisions["reviewers"].to_pylist(), decisions["comment"].to_pylist())
        decisions = decisions.drop(["reviewers", "comment"]).append_column("reviewers", texts[0])
        decisions = decisions.append_column("comment", texts[1])
    labels, classes = _label_sql(view)
    reviewers = "reviewers" if layout.flat else "coalesce(reviewers, [])"
    epoch = view.snapshot.epoch()
    newest = f"(SELECT id, target FROM {view.stored(epoch)})"
    earlier = f"(FROM {view.stored()} WHERE epoch < {epoch})"
    sql = f"""SELECT {numbered(["id", *attributes.values, *labels, "status", reviewers, "comment"])} FROM (
            SELECT *, CASE WHEN decided IS NULL THEN 'unreviewed' WHEN decided = 'corrected' AND right_label = target
                THEN 'kept' ELSE decided END AS status,
                CASE WHEN status = 'corrected' THEN right_label WHEN status IN ('kept', 'unreviewed') THEN target END
                AS label_index
            FROM ({last_values(newest, earlier, "target")})
            LEFT JOIN {attributes.source} USING (id)
            LEFT JOIN {registered(view, decisions)} USING (id)) {classes}
        ORDER BY {ID_ORDER}"""
    batches = regrouped(view.batches(sql), ROWS_AT_ONCE)
    return CorrectedTable.of((batch.rename_columns(names) for batch in batches), attributes.json_columns)


def _label_sql(view: View) -> tuple[list[str], str]:
    """Expressions of LABEL_COLUMNS, and the joins that they need."""
    names = view.snapshot.description.class_names
    if names is None:
        return ["label_index", "label_index", "target", "target"], ""
    classes = registered(view, pa.table({"number": pa.array(range(len(names)), pa.int32()), "name": list(names)}))
    joins = f"""LEFT JOIN {classes} used ON used.number = label_index
        LEFT JOIN {classes} given ON given.number = target"""
    return ["used.name", "label_index", "given.name", "target"], joins
