"""Chunks of rows that are scored together, and the options of reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.cli.score.columns import ColumnNames
from service.cli.score.sources import Source
from service.formats.columns import Array, ColumnError, numeric_labels
from service.formats.ids import described
from service.formats.labels import ClassNames, LabelError, class_labels, number_labels
from service.formats.places import place_at
from service.schema.request import Batch
from service.schema.structure import Layout

# Maximum size of the logits of a chunk, well below the largest request of a service.
CHUNK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file; a row is an example.

    Args:
        source: The file.
        first_row: Position of the first row in the file, from 0.
        logits: (N, C) or (N,); other layouts: see `service.schema.request.Batch`. (0,) with statistics.
        targets: (N,) or (N, L); other layouts: see there.
        ids: One id per row, or None.
        attributes: For each attribute, one value per row.
        offsets: (N + 1,) int64, first element of each row from 0; of the layout `ragged` only.
        statistics: Scores of the elements in place of logits; None with logits.
    """

    source: Source
    first_row: int
    logits: Array
    targets: Array
    ids: list[str | int] | None
    attributes: dict[str, list[Any]] = field(default_factory=dict)
    offsets: Array | None = None
    statistics: Mapping[str, Array] | None = None

    @property
    def batch(self) -> Batch:
        """The numbers of the rows, without ids and attributes."""
        return Batch(self.logits, self.targets, offsets=self.offsets, statistics=self.statistics)

    @property
    def parts(self) -> dict[str, object]:
        """The same as the client takes it: logits or statistics, targets and offsets, by name."""
        numbers = {"logits": self.logits} if self.statistics is None else self.statistics
        return {**numbers, "targets": self.targets, "offsets": self.offsets}

    @property
    def num_rows(self) -> int:
        return self.batch.num_examples


@dataclass(frozen=True)
class Reading:
    """Options of reading files.

    Args:
        names: Names of the columns.
        rows: Maximum number of rows of a chunk; chunks of wide rows have fewer.
        whole_targets: Targets are classes.
        keep_missing: Convert missing values to values that are invalid for the loss (NaN, NO_TARGET); otherwise they
            raise an error.
        class_names: Names of the classes, which labels may be.
        layout: How the elements of a file belong to its rows.
    """

    names: ColumnNames
    rows: int
    whole_targets: bool = True
    keep_missing: bool = False
    class_names: ClassNames | None = None
    layout: Layout = "rows"

    def num_fitting(self, sizes: Array, rows: int = 0, nbytes: int = 0) -> int:
        """Number of the next rows that belong to a chunk, so that it is as large as possible; at least 1 row in all.

        Args:
            sizes: Bytes of the logits of each next row.
            rows: Rows of the chunk so far.
            nbytes: Bytes of their logits.
        """
        ends = nbytes + np.cumsum(sizes[: self.rows - rows], dtype=np.int64)
        fitting = int(np.searchsorted(ends, CHUNK_BYTES, side="right"))
        return fitting if rows else max(1, fitting)

    def labels(self, values: Sequence[Any] | Array, name: str, first_row: int) -> Array:
        """Convert labels that are not in an Arrow column, (N,) or (N, L).

        Args:
            values: Numbers, or objects as JSON has them.
            name: Name of their column.
            first_row: Row of the first label in the file.

        Raises:
            ColumnError: A value is not a label; names its row.
        """
        if not isinstance(values, np.ndarray):
            objects = np.empty(len(values), object)
            objects[:] = [value if value.__hash__ else described(value) for value in values]
            values = objects
        return numeric_labels(
            values,
            name,
            first_row,
            whole=self.whole_targets,
            keep_missing=self.keep_missing,
            class_names=self.class_names,
        )

    def element_labels(self, values: Array, name: str, first_row: int, offsets: Array | None, *, soft: bool) -> Array:
        """Convert the labels of the elements of the layouts `dense` and `ragged`; they keep their shape.

        Args:
            values: Numbers, booleans or objects.
            name: Name of their column.
            first_row: First row in the file.
            offsets: (N + 1,) first element of each row, of ragged labels.
            soft: The labels are shares of classes.

        Raises:
            ColumnError: A value is not a label; names its row and element.
        """
        convert = class_labels if self.whole_targets and not soft else number_labels
        try:
            return convert(values.ravel(), self.class_names, exclude=self.keep_missing).reshape(values.shape)
        except LabelError as err:
            place = place_at(err.row, values.shape, offsets)
            row = first_row + (place["row"] or 0)
            raise ColumnError(err.msg, row, name, place["column"], place["element"]) from err
