"""Rows that do not count, since a later row of the same epoch has the same id.

Of the rows of an epoch with the same id the last one counts, by the name of its batch and its place in the batch. So a
batch that a trainer sends before the epoch, such as Lightning's sanity check, counts only where nothing follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ROW_NUMBERS = 2**31
SCHEMA = pa.schema({"epoch": pa.int32(), "batch": pa.string(), "row": pa.int32()})


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The rows of an epoch that do not count.

    Args:
        places: Table of `SCHEMA`, a row for each of them.
    """

    places: pa.Table

    def __len__(self) -> int:
        return int(self.places.num_rows)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return int(self.places.nbytes) + 500

    def remove_from(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that count, of rows of the epoch with the columns `batch` and `row`."""
        if not len(self):
            return rows
        batches = pc.index_in(rows["batch"], self._batches).fill_null(-1).to_numpy(zero_copy_only=False)
        return rows.filter(pa.array(~np.isin(_keys(batches, rows["row"]), self._keys)))

    @cached_property
    def _batches(self) -> pa.Array:
        return self.places["batch"].unique()

    @cached_property
    def _keys(self) -> Integers:
        return _keys(pc.index_in(self.places["batch"], self._batches).to_numpy(), self.places["row"])


def _keys(batches: np.ndarray, rows: pa.Array) -> Integers:
    keys: Integers = batches.astype(np.int64) * ROW_NUMBERS + rows.to_numpy()
    return keys


NONE = LeftOut(SCHEMA.empty_table())


def epochs_with_duplicates(stored: str) -> str:
    """A query of the epochs that have an id twice, and perhaps of a few others.

    Args:
        stored: Subquery of all rows of the epochs.
    """
    # Distinct digests take a third of the time of distinct texts; two texts rarely have the same one.
    return f"SELECT epoch FROM {stored} GROUP BY epoch HAVING count(*) > count(DISTINCT hash(id))"


def find_left_out(stored: str, table: Callable[[str], pa.Table]) -> LeftOut:
    """The rows of an epoch that do not count.

    Args:
        stored: Subquery of all rows of the epoch.
        table: Runs a query.
    """
    twice = f"SELECT id FROM {stored} GROUP BY id HAVING count(*) > 1"
    later = "row_number() OVER (PARTITION BY id ORDER BY batch DESC, row DESC)"
    places = table(f"SELECT epoch, batch, row FROM {stored} WHERE id IN ({twice}) QUALIFY {later} > 1")
    return LeftOut(places.cast(SCHEMA))
