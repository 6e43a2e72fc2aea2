"""Targets, ids and attributes of a table, with the types of its format."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa

from service.cli.score.chunks import Reading
from service.cli.score.readers import array_of_rows, nested_array, values_of_texts
from service.formats.arrow_types import plain
from service.formats.column_names import ResolvedColumns
from service.formats.columns import Array, ColumnError, ids_of, ids_of_column, vector
from service.formats.ids import described
from service.formats.labels import ClassNames, label_of_text


class Values(Protocol):
    """Conversion of the columns other than the logits; each method gets the first row of its column in the file."""

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array: ...

    def nested_targets(self, column: pa.ChunkedArray, first_row: int) -> pa.ChunkedArray | pa.Array: ...

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]: ...

    def attribute(self, column: pa.ChunkedArray) -> list[Any]: ...


class ArrowValues:
    """Columns of Parquet, Arrow and CSV, with the types of the file."""

    def __init__(self, columns: ResolvedColumns, reading: Reading) -> None:
        self._name = columns.targets
        self._reading = reading

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array:
        reading = self._reading
        return vector(
            one_array(column),
            self._name,
            first_row,
            whole=reading.whole_targets,
            keep_missing=reading.keep_missing,
            class_names=reading.class_names,
        )

    def nested_targets(self, column: pa.ChunkedArray, first_row: int) -> pa.ChunkedArray | pa.Array:
        return column

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]:
        return ids_of_column(one_array(column), name, first_row)

    def attribute(self, column: pa.ChunkedArray) -> list[Any]:
        values: list[Any] = column.to_pylist()
        return values


class JsonValues:
    """Columns of JSONL, each value as JSON text."""

    def __init__(self, columns: ResolvedColumns, reading: Reading) -> None:
        self._name = columns.targets
        self._reading = reading
        self._id_kind: type | None = None

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array:
        values = self.attribute(column)
        if any(isinstance(value, list) for value in values):
            lists = array_of_rows(values, pa.list_(pa.float64()), self._name, first_row)
            return vector(lists, self._name, first_row, whole=False, keep_missing=self._reading.keep_missing)
        return self._reading.labels(values, self._name, first_row)

    def nested_targets(self, column: pa.ChunkedArray, first_row: int) -> pa.ChunkedArray | pa.Array:
        values, names = self.attribute(column), self._reading.class_names
        try:
            return nested_array(values, self._name, first_row)
        except ColumnError:
            if names is None:
                raise
        # Names of classes, and numbers such as the label of elements that do not count.
        numbered = [self._numbered(value, names, row) for row, value in enumerate(values, start=first_row)]
        return nested_array(numbered, self._name, first_row)

    def _numbered(self, value: Any, names: ClassNames, row: int) -> Any:
        """A label, or lists of labels, with numbers in place of texts."""
        if isinstance(value, list):
            return [self._numbered(item, names, row) for item in value]
        if not isinstance(value, str):
            return value
        label = label_of_text(value, names)
        if label is None:
            raise ColumnError(names.unknown(value), row, self._name)
        return label

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]:
        values = ids_of(self.attribute(column), name, first_row)
        self._id_kind = self._id_kind or type(values[0])
        for row, value in enumerate(values, start=first_row):
            if type(value) is not self._id_kind:
                kind = "an integer" if self._id_kind is int else "a text"
                raise ColumnError(f"{described(value)} is not {kind} like the ids before it", row, name)
        return values

    def attribute(self, column: pa.ChunkedArray) -> list[Any]:
        return values_of_texts(column)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one array; only a tensor keeps its type, whose shape is checked later."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if isinstance(column.type, pa.FixedShapeTensorType) else plain(column)
