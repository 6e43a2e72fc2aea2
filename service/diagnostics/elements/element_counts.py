"""Counts and losses of the elements of structured examples, by class or label, and by confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.diagnostics.chunks import Floats, Integers
from service.diagnostics.pair_sums import PairSums
from service.queries.element_losses import element_counts, flat, lengths, unit_places
from service.schema.structure import Task

COLUMNS = (
    "batch",
    "row",
    "targets",
    "predictions",
    "element_log_odds",
    "element_counts",
    "unit_offsets",
    "unit_elements",
    "unit_given",
    "unit_suggested",
)


class ElementCounts:
    """Sums over the elements that are not ignored, by cell: the target or, of multi_label, 2 label + target.

    Args:
        task: Task of the run.
        num_classes: C classes, of multi_label L labels.
    """

    def __init__(self, task: Task, num_classes: int) -> None:
        self.num_elements = self.num_examples_wrong = 0
        self._of_labels = task == "multi_label"
        # The cells of a label, or those of all classes, come after one for ignored elements.
        self._num_targets = 2 if self._of_labels else num_classes
        self._num_groups = num_classes if self._of_labels else 1
        self.count: Integers = np.zeros(self._num_groups * self._num_targets, np.int64)
        self.loss: Floats = np.zeros(len(self.count))
        self.wrong = PairSums(self._num_targets, 3)
        """Of each pair of a cell and a prediction that is wrong: elements, units, and the loss."""

    @property
    def num_valid(self) -> int:
        """Number of elements that are not ignored."""
        return int(self.count.sum())

    def add(self, rows: pa.RecordBatch, loss: Floats) -> None:
        """Add examples: stored rows with `COLUMNS`, and the losses of all of their elements, 0 for ignored ones."""
        targets, counts = flat(rows, "targets"), None
        if rows["element_counts"].null_count < len(rows):
            counts = element_counts(rows)
        places = self._places(targets)
        self.num_elements += len(targets) if counts is None else int(counts.sum())
        self.count += self._sums(places, counts).astype(np.int64)
        self.loss += self._sums(places, loss if counts is None else loss * counts)
        self.num_examples_wrong += int(np.count_nonzero(lengths(rows, "unit_given")))
        self._add_wrong(rows, targets, loss)

    def _places(self, targets: NDArray[Any]) -> NDArray[Any]:
        """The place of the cell of each element, among the cells and those of ignored elements."""
        places: NDArray[Any] = targets + 1
        if self._of_labels:
            by_label = places.reshape(-1, self._num_groups)
            by_label += np.arange(self._num_groups, dtype=np.int32) * (self._num_targets + 1)
        return places

    def _sums(self, places: NDArray[Any], values: NDArray[Any] | None) -> NDArray[Any]:
        """Sums of values by cell, without those of ignored elements."""
        sums = np.bincount(places, values, self._num_groups * (self._num_targets + 1))
        return sums.reshape(self._num_groups, -1)[:, 1:].reshape(-1)

    def _add_wrong(self, rows: pa.RecordBatch, targets: NDArray[Any], loss: Floats) -> None:
        # Each wrong element is in one unit.
        places = unit_places(rows)[1]
        cells = targets[places].astype(np.int64)
        if self._of_labels:
            cells += places % self._num_groups * self._num_targets
        ones = np.ones(len(places))
        # The unit of a wrong label is the label; other units have several elements, and a main pair.
        units = ones if self._of_labels else np.zeros(len(places))
        self.wrong.add(cells, flat(rows, "predictions")[places], np.stack([ones, units, loss[places]]))
        if not self._of_labels:
            given, suggested = flat(rows, "unit_given"), flat(rows, "unit_suggested")
            self.wrong.add(given, suggested, np.outer([0.0, 1.0, 0.0], np.ones(len(given))))
