"""The elements of a batch that holds statistics in place of its logits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np

from service.compute.elements import Elements
from service.compute.invalid import element_fault
from service.errors import InvalidRequestError, NeedsLogitsError, ShapeError
from service.loss.statistics_scores import follows
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.request import ELEMENT_COUNT, ELEMENT_OUTPUTS, STATISTIC_PARTS, Batch, Column, RequestOptions
from service.schema.structure import TopShare

# Sums of counts are exact in float64.
MAX_COUNT = 2**31 - 1


def checked_statistics(
    config: LossConfig, options: RequestOptions, number: int, batch: Batch, num_classes: int | None
) -> Mapping[str, Column]:
    """The statistics of a batch, after a check of their names, shapes and numbers.

    Args:
        config: Configuration of the loss.
        options: Options of the request.
        number: Number of the batch, for messages.
        batch: A batch with statistics.
        num_classes: Number of classes; None if unknown.

    Raises:
        InvalidRequestError: No `log_odds`, an unknown statistic, a count that is none, or logits as well.
        ShapeError: A statistic does not have the shape of the targets.
        NeedsLogitsError: An output, or the loss itself, does not follow from what was sent.
    """
    statistics = batch.statistics or {}
    if batch.logits.size:
        raise fault(InvalidRequestError, "give logits or log_odds, not both", "logits", batch=number)
    if "log_odds" not in statistics:
        msg = "statistics in place of logits need log_odds"
        raise fault(InvalidRequestError, msg, next(iter(statistics), "log_odds"), batch=number)
    for name, values in statistics.items():
        if name not in STATISTIC_PARTS:
            raise fault(InvalidRequestError, f"unknown statistic {name[:100]!r}", name[:100], batch=number)
        if values.shape != batch.targets.shape:
            msg = f"{name} {list(values.shape)} does not have the shape of the targets {list(batch.targets.shape)}"
            raise fault(ShapeError, msg, name, batch=number)
        if values.dtype.kind not in "iuf" and values.dtype.name != "bfloat16":
            raise fault(InvalidRequestError, f"{name} is not numbers but {values.dtype.name}", name, batch=number)
    if ELEMENT_COUNT in statistics:
        _check_counts(options, number, statistics[ELEMENT_COUNT])
    if config.label_smoothing:
        msg = "with label_smoothing the loss does not follow from log_odds: send the logits"
        raise fault(NeedsLogitsError, msg, "log_odds", batch=number)
    for name in _unavailable(config, options, statistics, num_classes):
        msg = f"{name} does not follow from {', '.join(statistics)}: send it as well, or the logits"
        raise fault(NeedsLogitsError, msg, "batches", number, name, detail=f"batch {number}: {msg}")
    # Integers are log-odds as well; the logits of sigmoid mode are floats.
    log_odds = statistics["log_odds"]
    return {**statistics, "log_odds": log_odds.astype(np.float64) if log_odds.dtype.kind in "iu" else log_odds}


def _check_counts(options: RequestOptions, number: int, counts: Column) -> None:
    """Check the numbers of elements that elements stand for.

    Raises:
        InvalidRequestError: A number is no integer from 1 to MAX_COUNT, or the layout is not `ragged`.
        NeedsLogitsError: The request asks for what depends on the single elements.
    """
    if options.layout != "ragged":
        msg = f"{ELEMENT_COUNT} is for the layout ragged, and this request has the layout {options.layout}"
        raise fault(InvalidRequestError, msg, ELEMENT_COUNT, batch=number)
    numbers = counts.astype(np.float64)
    bad = ~((numbers >= 1) & (numbers <= MAX_COUNT) & (numbers == np.floor(numbers)))
    if bad.any():
        place = int(bad.reshape(-1).argmax())
        value = numbers.reshape(-1)[place].item()
        msg = f"{ELEMENT_COUNT} {value:g} of element {place} of the batch is no integer from 1 to {MAX_COUNT}"
        raise fault(InvalidRequestError, msg, ELEMENT_COUNT, batch=number)
    if options.with_regions or isinstance(options.within, TopShare):
        name = "regions" if options.with_regions else "within"
        msg = f"{name} needs the single elements, and with {ELEMENT_COUNT} an element stands for many"
        raise fault(NeedsLogitsError, msg, name)


def _unavailable(
    config: LossConfig, options: RequestOptions, statistics: Collection[str], num_classes: int | None
) -> Iterator[str]:
    """Yield each part of the request that does not follow from the statistics."""
    if config.mode == "sigmoid":
        return
    regions = ["prediction"] if options.with_regions else []
    for name in (*options.outputs, *options.elements, *regions):
        # The other outputs, those of examples alone, need the losses and p_t only.
        if name in ELEMENT_OUTPUTS and not follows(name, statistics, num_classes):
            yield name


def with_statistics(config: LossConfig, number: int, elements: Elements, statistics: Mapping[str, Column]) -> Elements:
    """The elements of a batch with statistics, from those whose logits are its log-odds and whose targets are numbers.

    In sigmoid mode z = (2 y - 1) x of a hard label gives the logit x, and so everything else.

    Raises:
        NeedsLogitsError: A soft label in sigmoid mode; names batch, example and element.
    """
    shape = elements.targets.shape
    counts = statistics.get(ELEMENT_COUNT)
    elements = replace(elements, counts=None if counts is None else counts.astype(np.float64).reshape(shape))
    if not elements.sigmoid:
        scores = {name: values.reshape(shape) for name, values in statistics.items() if name != ELEMENT_COUNT}
        return replace(elements, statistics=scores)
    log_odds, targets = elements.logits, elements.targets
    ignored = np.zeros(targets.shape, bool) if config.ignore_index is None else targets == config.ignore_index
    soft = ~ignored & (targets > 0) & (targets < 1)
    if soft.any():
        msg = "the loss of a soft label does not follow from log_odds"
        raise element_fault(elements, NeedsLogitsError, msg, "targets", number, *elements.place(int(soft.argmax())))
    return replace(elements, logits=np.where(targets > 0.5, log_odds, -log_odds))
