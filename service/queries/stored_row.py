"""One stored row of a run, with columns of lists that queries do not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from service.queries.view import View
from service.runs.parquet import read_row

# Values of a column that are read at once.
VALUES_AT_ONCE = 2**20


def stored_row(view: View, place: Mapping[str, Any], columns: Sequence[str]) -> pa.RecordBatch:
    """Columns of one row; of the other rows, at most those of its row group are read.

    Args:
        view: The run.
        place: `epoch`, `batch` and `row` of the row, which a query has found.
        columns: Names of stored columns.
    """
    for data in view.snapshot.data_of(place["epoch"]):
        view.check()
        if place["batch"] in data.batches:
            name = place["batch"], place["row"]
            found = read_row(view.snapshot.files, data, columns, name, VALUES_AT_ONCE)
            if found is not None:
                return found
    raise AssertionError("a query found the row")
