"""The last row of some examples. The last epoch is read first, and has most of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from service.queries.sql import LATEST
from service.queries.view import SqlRow, View


def last_rows(view: View, ids: Collection[str], columns: Sequence[str]) -> dict[str, SqlRow]:
    """Columns of the last row of each example, with `id` and `epoch`, by id; without unknown ids.

    Rows of one epoch that do not count need not be known: of those with the same id, the last one counts. So a run of
    a million rows an epoch takes 20 ms.

    Args:
        view: The run.
        ids: Ids of examples.
        columns: Names of stored columns.
    """
    found: dict[str, SqlRow] = {}
    missing = set(ids)
    for epoch in reversed(view.snapshot.epochs):
        if not missing:
            break
        values = "".join(f", arg_max({name}, {LATEST}) AS {name}" for name in columns)
        sql = f"""SELECT id, epoch{values} FROM {view.every_row(epoch)} WHERE id IN (SELECT unnest(?::VARCHAR[]))
            GROUP BY id, epoch"""
        found |= {row["id"]: row for row in view.rows(sql, [sorted(missing)])}
        missing -= found.keys()
    return found


def last_values(newest: str, earlier: str, column: str) -> str:
    """A query of the last value of each example.

    Most examples are in the newest epoch: the values of the others only are compared, as a comparison of all would have
    to hold all values in memory.

    Args:
        newest: Subquery of `id` and the column in the newest epoch; its ids are unique.
        earlier: Subquery of the rows of earlier epochs.
        column: Name of the column.
    """
    return f"""FROM {newest} UNION ALL
        SELECT id, arg_max({column}, {LATEST}) AS {column} FROM {earlier} ANTI JOIN {newest} USING (id) GROUP BY id"""
