"""A temporary file with the elements of many examples, which are read in one pass and exported in another order.

The elements of a run may be larger than the memory. The file is an Arrow file that is mapped into memory: rows are read
from it when they are exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from service.exports.elements import AllElements, Numbers, RowElements, RowUnit
from service.queries.sql import quoted
from service.queries.unit_names import unit_name
from service.queries.view import View
from service.schema.structure import Task
from service.storage.temporary import TemporaryFile

# Elements that are in memory at once, of each column.
ELEMENTS_AT_ONCE = 2**20
# With fewer ids, DuckDB skips groups of rows without one of them.
MAX_IDS_IN_SQL = 1000

ElementPart = Literal["units", "all"]
_COLUMNS: Mapping[ElementPart, str] = {
    "units": """unit_offsets, unit_elements, unit_start, unit_stop, unit_given, unit_suggested, unit_suggested_p,
        list_select(predictions, list_transform(unit_elements, lambda place: place + 1)) AS unit_predictions""",
    "all": "targets, predictions, element_log_odds",
}


class ElementFile:
    """The elements of examples of an epoch, by id.

    Args:
        view: The run.
        folder: Folder for the file.
        epoch: The epoch.
        ids: Ids of the examples; None for all of the epoch.
        parts: The elements of units, all elements, or both.

    Raises:
        OSError: The folder has no space.
    """

    def __init__(
        self, view: View, folder: Path, epoch: int, ids: Sequence[str] | None, parts: Sequence[ElementPart]
    ) -> None:
        self._task: Task = view.snapshot.description.task
        self._parts = parts
        self._file = TemporaryFile(folder, "elements-")
        batches = _batches(view, epoch, ids, parts)
        first = next(batches)
        with pa.OSFile(str(self._file.path), "wb") as opened, pa.ipc.new_file(opened, first.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        self._table = pa.ipc.open_file(pa.memory_map(str(self._file.path))).read_all()
        self._ids = self._table["id"].combine_chunks()

    def read(self, ids: Sequence[str]) -> Iterator[RowElements | None]:
        """Yield the elements of examples; None for an id that the file does not have."""
        rows = pc.index_in(pa.array(ids, pa.string()), self._ids).to_pylist()
        for row in rows:
            yield None if row is None else self._read(row)

    def _read(self, row: int) -> RowElements:
        def values(name: str) -> Numbers:
            numbers: Numbers = self._table[name][row].values.to_numpy(zero_copy_only=False)
            return numbers

        shape = tuple(values("shape").tolist())
        units = tuple(_units(self._task, values, len(shape))) if "units" in self._parts else ()
        if "all" not in self._parts:
            return RowElements(shape, units)
        return RowElements(shape, units, AllElements(*map(values, ("targets", "predictions", "element_log_odds"))))


def _batches(
    view: View, epoch: int, ids: Sequence[str] | None, parts: Sequence[ElementPart]
) -> Iterator[pa.RecordBatch]:
    # A histogram of a mask does not say where its elements are.
    rows, parameters = f"(FROM {view.stored(epoch)} WHERE element_counts IS NULL)", []
    if ids is not None and len(ids) <= MAX_IDS_IN_SQL:
        rows = f"(FROM {rows} WHERE id IN ({', '.join(map(quoted, ids)) or 'NULL'}))"
    elif ids is not None:
        rows, parameters = f"(FROM {rows} WHERE id IN (SELECT unnest(?::VARCHAR[])))", [list(ids)]
    largest = view.row(f"SELECT max(list_product(shape)) AS size FROM {rows}", parameters)["size"]
    columns = ", ".join(["id", "shape", *(_COLUMNS[part] for part in parts)])
    size = max(1, ELEMENTS_AT_ONCE // max(1, int(largest or 1)))
    yield from view.batches(f"SELECT {columns} FROM {rows}", parameters, size)


def _units(task: Task, values: Any, axes: int) -> Iterator[RowUnit]:
    offsets, places, predictions = values("unit_offsets"), values("unit_elements"), values("unit_predictions")
    starts, stops = values("unit_start").reshape(-1, axes).tolist(), values("unit_stop").reshape(-1, axes).tolist()
    given, suggested, p = values("unit_given").tolist(), values("unit_suggested").tolist(), values("unit_suggested_p")
    for number, (first, end) in enumerate(pairwise(offsets.tolist())):
        yield RowUnit(
            name=unit_name(task, number, starts[number], stops[number]),
            places=places[first:end],
            predictions=predictions[first:end],
            given=given[number],
            suggested=suggested[number],
            suggested_p=None if math.isnan(p[number]) else float(p[number]),
        )
