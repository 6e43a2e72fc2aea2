"""Counts and losses of the elements of structured examples, by class or label, and by confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.diagnostics.chunks import Floats, Integers
from service.diagnostics.pair_sums import PairSums
from service.queries.element_losses import element_counts, flat, lengths
from service.schema.structure import Task


class ElementCounts:
    """Sums over the elements that are not ignored, by cell: the target or, of multi_label, 2 label + target.

    Args:
        task: Task of the run.
        num_classes: C classes, of multi_label L labels.
    """

    def __init__(self, task: Task, num_classes: int) -> None:
        self.num_elements = self.num_valid = self.num_examples_wrong = 0
        self._of_labels = task == "multi_label"
        self._num_classes = num_classes
        self._num_cells = 2 * num_classes if self._of_labels else num_classes
        self.count: Integers = np.zeros(self._num_cells, np.int64)
        self.loss: Floats = np.zeros(self._num_cells)
        self.wrong = PairSums(2 if self._of_labels else num_classes, 3)
        """Of each pair of a cell and a prediction that is wrong: elements, units, and the loss."""

    def add(self, rows: pa.RecordBatch, loss: Floats) -> None:
        """Add examples: stored rows, and the losses of all of their elements."""
        targets, predictions = flat(rows, "targets"), flat(rows, "predictions")
        counted, counts = targets >= 0, element_counts(rows)
        cells = self._cells(rows, targets)
        self.num_elements += int(counts.sum())
        self.num_valid += int(counts[counted].sum())
        self.num_examples_wrong += int(np.count_nonzero(lengths(rows, "unit_given")))
        self.count += np.bincount(cells[counted], counts[counted], self._num_cells).astype(np.int64)
        self.loss += np.bincount(cells[counted], loss[counted] * counts[counted], self._num_cells)
        # Elements that stand for several have no predictions.
        wrong = np.flatnonzero(counted & (targets != predictions) & (predictions >= 0))
        ones = np.ones(len(wrong))
        # The unit of a wrong label is the label; other units have several elements, and a main pair.
        units = ones if self._of_labels else np.zeros(len(wrong))
        self.wrong.add(cells[wrong], predictions[wrong], np.stack([ones, units, loss[wrong]]))
        if not self._of_labels:
            given, suggested = flat(rows, "unit_given"), flat(rows, "unit_suggested")
            self.wrong.add(given, suggested, np.outer([0.0, 1.0, 0.0], np.ones(len(given))))

    def _cells(self, rows: pa.RecordBatch, targets: NDArray[Any]) -> Integers:
        if not self._of_labels:
            return targets.astype(np.int64)
        cells: Integers = 2 * np.tile(np.arange(self._num_classes), len(rows)) + np.maximum(targets, 0)
        return cells
