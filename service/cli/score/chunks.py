"""Chunks of rows that are scored together, and the options of reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.cli.score.columns import ColumnNames
from service.cli.score.sources import Source
from service.formats.columns import Array, numeric_labels
from service.formats.ids import described
from service.formats.labels import ClassNames

# Maximum size of the logits of a chunk, well below the largest request of a service.
CHUNK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file.

    Args:
        source: The file.
        first_row: Position of the first row in the file, from 0.
        logits: (N, C) or (N,).
        targets: (N,) or (N, L).
        ids: One id per row, or None.
        attributes: For each attribute, one value per row.
    """

    source: Source
    first_row: int
    logits: Array
    targets: Array
    ids: list[str | int] | None
    attributes: dict[str, list[Any]] = field(default_factory=dict)


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
    """

    names: ColumnNames
    rows: int
    whole_targets: bool = True
    keep_missing: bool = False
    class_names: ClassNames | None = None

    def rows_of(self, width: int, itemsize: int) -> int:
        """Number of rows of a chunk.

        Args:
            width: Logits of a row.
            itemsize: Bytes of a logit.
        """
        return min(self.rows, max(1, CHUNK_BYTES // max(1, width * itemsize)))

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
