"""Chunks of the elements of a structured run, in bounded memory.

The marks of a chunk, flat, are those of the column `targets` of its rows, flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.diagnostics.chunks import Integers
from service.diagnostics.elements.element_chunks import ElementChunk, ElementChunks, Logits
from service.diagnostics.elements.labels import LabelChunk, LabelChunks
from service.queries.element_losses import flat, lengths
from service.queries.view import View

# Label issues take about 200 bytes for each pair of classes.
MAX_CLASSES = 1000
# Each label has estimates of its own, which take 0.4 ms.
MAX_LABELS = 10_000
_PLACE = ("batch", "row", "targets")


def reason_without_issues(view: View, epoch: int) -> str | None:
    """The reason why an epoch has no label issues of elements, as a clause; None if it has them."""
    run, num_classes = view.snapshot.description, view.snapshot.num_classes or 0
    if view.has_counts(epoch):
        return "masks were sent as histograms, whose elements have no places"
    if run.config.mode == "softmax" and not view.snapshot.has_logits(epoch):
        return "the logits of this epoch are not stored"
    if run.task != "multi_label" and num_classes > MAX_CLASSES:
        return f"the run has {num_classes} classes, and a table of their pairs has at most {MAX_CLASSES}"
    if run.task == "multi_label" and num_classes > MAX_LABELS:
        return f"the run has {num_classes} labels, and label issues are found for at most {MAX_LABELS}"
    return None


def label_chunks(view: View, epoch: int) -> LabelChunks:
    """Targets and logits of the labels of an epoch of a multi_label run; each call starts another pass."""
    return lambda: (chunk for _, chunk in placed_label_chunks(view, epoch))


def class_chunks(view: View, epoch: int) -> ElementChunks:
    """Targets and logits of the tokens or pixels of an epoch with label issues; each call starts another pass."""
    return lambda: (chunk for _, chunk in placed_class_chunks(view, epoch))


def placed_label_chunks(
    view: View, epoch: int, columns: Sequence[str] = ()
) -> Iterator[tuple[pa.RecordBatch, LabelChunk]]:
    """Chunks of an epoch of a multi_label run, each with its stored rows: `batch`, `row`, `targets` and `columns`."""
    for rows in view.stored_batches(epoch, [*_PLACE, "element_log_odds", *columns]):
        if len(rows):
            yield rows, stored_labels(rows)


def placed_class_chunks(
    view: View, epoch: int, columns: Sequence[str] = ()
) -> Iterator[tuple[pa.RecordBatch, ElementChunk]]:
    """Chunks of an epoch of tokens or masks with label issues, each with its stored rows; see `placed_label_chunks`.

    Softmax: the stored logits. Sigmoid: logits of the classes 0 and 1, from the log-odds.
    """
    run, num_classes = view.snapshot.description, view.snapshot.num_classes or 2
    numbers = "element_log_odds" if run.config.mode == "sigmoid" else "element_logits"
    for rows in view.stored_batches(epoch, [*_PLACE, numbers, *columns]):
        if len(rows) and run.task == "tokens":
            yield rows, stored_tokens(rows, num_classes)
        elif len(rows):
            yield from stored_masks(rows, num_classes)


def stored_labels(rows: pa.RecordBatch) -> LabelChunk:
    """The chunk of multi-label examples: rows with the columns `targets` and `element_log_odds`, L elements each."""
    targets = flat(rows, "targets").astype(np.int8)
    shape = len(rows), len(targets) // max(len(rows), 1)
    return LabelChunk(targets.reshape(shape), _positive_logits(rows).reshape(shape))


def stored_tokens(rows: pa.RecordBatch, num_classes: int) -> ElementChunk:
    """The chunk of sequences of tokens.

    Args:
        rows: Rows with the column `targets`, and `element_logits` (softmax) or `element_log_odds` (sigmoid).
        num_classes: C; 2 for sigmoid.
    """
    targets = flat(rows, "targets").astype(np.int64)
    if "element_logits" in rows.schema.names:
        logits: Logits = flat(rows, "element_logits").reshape(len(targets), num_classes)
    else:
        logits = _two_classes(_positive_logits(rows))
    return ElementChunk(targets[None], logits[None], by_rows=True)


def stored_masks(rows: pa.RecordBatch, num_classes: int) -> Iterator[tuple[pa.RecordBatch, ElementChunk]]:
    """Chunks of masks, each with its rows: neighbouring masks of as many elements; see `stored_tokens`."""
    sizes = lengths(rows, "targets")
    starts = np.flatnonzero(np.append(True, np.diff(sizes) != 0))[: len(rows)].tolist()
    for start, stop in pairwise([*starts, len(rows)]):
        part, shape = rows.slice(start, stop - start), (stop - start, int(sizes[start]))
        targets = flat(part, "targets").astype(np.int64).reshape(shape)
        if "element_logits" in rows.schema.names:
            logits: Logits = flat(part, "element_logits").reshape(shape[0], num_classes, shape[1])
        else:
            logits = _two_classes(_positive_logits(part).reshape(shape))
        yield part, ElementChunk(targets, logits)


def examples_of(rows: pa.RecordBatch) -> Integers:
    """(S,) int64, row of each element."""
    return np.repeat(np.arange(len(rows)), lengths(rows, "targets"))


def _positive_logits(rows: pa.RecordBatch) -> NDArray[np.float32]:
    """(S,) logits of class 1: the log-odds where the target is 1, else minus them."""
    log_odds: NDArray[np.float32] = flat(rows, "element_log_odds")
    return np.where(flat(rows, "targets") == 1, log_odds, -log_odds)


def _two_classes(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax logits of the classes 0 and 1 along a further axis, the second one, of sigmoid logits."""
    return np.stack([np.zeros_like(logits), logits], axis=1)
