"""Masks as histograms of their log-odds: a few elements that stand for all, from which the loss follows nearly.

The log-odds of the elements of an example and a class fall into 256 bins of 1/8 between -16 and 16, and two more below
and above. A bin becomes one element with the mean of its log-odds, so the loss of an element is wrong by at most
(1 + gamma)^2 / 512 of it in first approximation. Below -16 the loss is linear in the log-odds, and exact to 1e-7; above
16 the cross-entropy is exact, and the loss less than 2e-7.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from service.client.arrays import numbers_of, tensor
from service.client.batches import SentBatch
from service.errors import InvalidRequestError
from service.formats.part_names import OFFSETS
from service.formats.ragged import offsets_of
from service.schema.config import LossConfig
from service.schema.request import ELEMENT_COUNT, Column

BINS_PER_UNIT, LARGEST = 8, 16
BINS = 2 * LARGEST * BINS_PER_UNIT + 2
Reduce = bool | Literal["histogram"]
"""True to send statistics in place of logits; `histogram` for a few elements that stand for all of a mask."""
# Counts of bins that are in memory at once.
COUNTS_AT_ONCE = 2**22


def as_histograms(batch: SentBatch, config: LossConfig) -> SentBatch:
    """Convert a batch of dense log-odds to one of the layout `ragged`, whose elements stand for those of a bin.

    Args:
        batch: The batch, reduced to `log_odds`; softmax (N, d1, ...) targets, or sigmoid with the same shape.
        config: Configuration of the loss.

    Raises:
        InvalidRequestError: The batch is not dense, has several labels of each element, or an invalid element.
    """
    if batch.layout != "dense":
        raise InvalidRequestError(f"histograms are for the layout dense, and this batch has the layout {batch.layout}")
    log_odds, targets = (numbers_of(batch.tensors[part]) for part in ("log_odds", "targets"))
    if log_odds.shape != targets.shape:
        raise InvalidRequestError("histograms are for masks with one label of each element")
    number = len(targets)
    values, labels = log_odds.reshape(number, -1), targets.reshape(number, -1)
    counted = np.ones(labels.shape, bool) if config.ignore_index is None else labels != config.ignore_index
    if labels[counted].min(initial=0) < 0 or np.isnan(values[counted]).any():
        raise InvalidRequestError("a histogram has no place for an invalid element: mend or ignore it")
    num_classes = int(labels[counted].max(initial=0)) + 1
    step = max(1, COUNTS_AT_ONCE // (num_classes * BINS))
    parts = [
        _histograms(values[start : start + step], labels[start : start + step], counted[start : start + step])
        for start in range(0, number, step)
    ]
    columns = zip(*parts, strict=True) if parts else [[np.empty(0)]] * 4
    sizes, classes, means, counts = map(np.concatenate, columns)
    arrays = {
        "targets": classes.astype(np.int32),
        "log_odds": means.astype(np.float32),
        ELEMENT_COUNT: counts.astype(np.int32),
        OFFSETS: offsets_of(sizes),
    }
    return replace(batch, tensors={part: tensor(array, part) for part, array in arrays.items()}, layout="ragged")


def _histograms(log_odds: Column, labels: Column, counted: Column) -> tuple[Column, Column, Column, Column]:
    """Numbers of bins by example; class, mean log-odds and count of each bin that is not empty."""
    example = np.repeat(np.arange(len(labels)), labels.shape[1])[counted.reshape(-1)]
    z, classes = log_odds[counted].astype(np.float64), labels[counted].astype(np.int64)
    num_classes = int(classes.max(initial=0)) + 1
    bins = np.clip(np.floor((z + LARGEST) * BINS_PER_UNIT), -1, BINS - 2).astype(np.int64) + 1
    place = (example * num_classes + classes) * BINS + bins
    counts = np.bincount(place, minlength=len(labels) * num_classes * BINS)
    filled = counts.nonzero()[0]
    # Above the largest bin the loss is exp(-z): the mean of the losses is that of the element.
    high = bins == BINS - 1
    z[high] = np.exp(-z[high])
    means = np.bincount(place, z, len(counts))[filled] / counts[filled]
    high = filled % BINS == BINS - 1
    with np.errstate(divide="ignore"):
        means[high] = -np.log(means[high])
    owner = filled // (num_classes * BINS)
    sizes = np.bincount(owner, minlength=len(labels))
    return sizes, filled // BINS % num_classes, means, counts[filled]
