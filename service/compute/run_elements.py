"""The elements of a batch as a run stores them: targets, predictions, log-odds, and units of wrong elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from service.compute.elements import Elements, Segments
from service.compute.region_values import WrongElements, connected, region_columns
from service.formats.ragged import offsets_of
from service.loss.arrays import Array
from service.schema.structure import Lists

IGNORED = -1
# Elements whose units are found at once.
ELEMENTS_AT_ONCE = 2**18


def element_columns(
    elements: Elements, outputs: Mapping[str, Array], ignore_index: int | None, *, with_logits: bool
) -> dict[str, Lists]:
    """The columns of lists of `service.runs.schema.ELEMENT_SCHEMA`; of no meaning in examples that do not count.

    Args:
        elements: The batch, with hard labels.
        outputs: Outputs of the elements: `log_odds`, `loss`, `prediction` of elements without counts, and perhaps
            `normalized_margin`.
        ignore_index: Target of elements that do not count.
        with_logits: True to add `element_logits`; without statistics only.
    """
    bounds = element_bounds(elements)
    targets = class_numbers(elements, ignore_index).reshape(-1)
    # Elements that stand for several have a prediction each, and none together.
    has_predictions = elements.counts is None
    predictions = np.full(len(targets), IGNORED) if not has_predictions else outputs["prediction"].reshape(-1)
    predictions = predictions.astype(np.int32)
    log_odds = np.where(targets == IGNORED, 0, outputs["log_odds"].reshape(-1))
    # A score beyond the range of float32 becomes infinite.
    with np.errstate(over="ignore"):
        lists = {
            "targets": Lists(targets, bounds),
            "predictions": Lists(predictions, bounds),
            "element_log_odds": Lists(log_odds.astype(np.float32), bounds),
        }
    lists |= _shapes(elements)
    lists |= _units(elements, outputs, targets, predictions, bounds)
    if elements.counts is not None:
        lists["element_counts"] = Lists(elements.counts.reshape(-1), bounds)
    if with_logits:
        lists["element_logits"] = Lists(_logits(elements).reshape(-1), bounds * elements.logits.shape[1])
    return lists


def element_bounds(elements: Elements) -> Array:
    """(N + 1,) int64, the first element of each example, and the number of all."""
    rows = np.arange(elements.num_examples + 1) if elements.offsets is None else elements.offsets
    return rows.astype(np.int64) * elements.per_row


def class_numbers(elements: Elements, ignore_index: int | None) -> Array:
    """The targets as int32 classes, of sigmoid mode 0 or 1, and `IGNORED`; of the shape of the elements' targets."""
    targets = elements.targets
    classes: Array = (targets > 0.5).astype(np.int32) if elements.sigmoid else targets.astype(np.int32)
    if ignore_index is not None:
        classes[targets == ignore_index] = IGNORED
    return classes


def _shapes(elements: Elements) -> dict[str, Lists]:
    if elements.offsets is not None:
        sizes = np.diff(elements.offsets)
        return {"shape": Lists(sizes, np.arange(len(sizes) + 1))}
    number, axes = elements.num_examples, elements.axes
    return {"shape": Lists(np.tile(np.array(axes, np.int64), number), np.arange(number + 1) * len(axes))}


def _units(
    elements: Elements, outputs: Mapping[str, Array], targets: Array, predictions: Array, bounds: Array
) -> dict[str, Lists]:
    """The units: connected elements whose prediction differs from their target."""
    # Excluded examples have no prediction.
    is_wrong = (targets != IGNORED) & (predictions != targets) & (predictions >= 0)
    parts = []
    for start, stop in _ranges(elements, bounds):
        places = is_wrong[start:stop].nonzero()[0] + start
        if len(places):
            parts.append(_units_of(elements, outputs, targets, predictions, bounds, places))
    found = _Units(*map(np.concatenate, zip(*parts, strict=True))) if parts else _NO_UNITS
    return _unit_lists(elements.num_examples, found)


def _ranges(elements: Elements, bounds: Array) -> Iterator[tuple[int, int]]:
    """Split the elements into ranges of at most ELEMENTS_AT_ONCE that cut no unit, or of one larger example."""
    total = int(bounds[-1])
    if elements.layout == "rows":
        yield from ((start, min(start + ELEMENTS_AT_ONCE, total)) for start in range(0, total, ELEMENTS_AT_ONCE))
        return
    example = 0
    while example < len(bounds) - 1:
        last = max(example + 1, int(np.searchsorted(bounds, bounds[example] + ELEMENTS_AT_ONCE, "right")) - 1)
        yield int(bounds[example]), int(bounds[last])
        example = last


class _Units(NamedTuple):
    """Units of several examples, and the positions of all of their elements, unit by unit; with K axes.

    Args:
        example: (U,) example of each unit.
        sizes: (U,) number of its elements.
        start: (U, K) first index along each axis.
        stop: (U, K) last index along each axis, plus 1.
    """

    example: Array
    sizes: Array
    given: Array
    suggested: Array
    suggested_p: Array
    start: Array
    stop: Array
    positions: Array


_NOTHING = np.empty(0, np.int32)
_NO_INDICES = _NOTHING.reshape(0, 1)
_NO_UNITS = _Units(
    example=_NOTHING,
    sizes=_NOTHING,
    given=_NOTHING,
    suggested=_NOTHING,
    suggested_p=_NOTHING.astype(np.float32),
    start=_NO_INDICES,
    stop=_NO_INDICES,
    positions=_NOTHING,
)


def _units_of(
    elements: Elements,
    outputs: Mapping[str, Array],
    targets: Array,
    predictions: Array,
    bounds: Array,
    places: Array,
) -> _Units:
    """The units of some examples, all of whose wrong elements have these places."""
    example, position = Segments(len(bounds) - 1, bounds=bounds).owners(places)
    position = position.astype(np.int32)
    with np.errstate(over="ignore"):
        p_t = 1 / (1 + np.exp(-outputs["log_odds"].reshape(-1)[places].astype(np.float64)))
    p = _p_of_prediction(elements, outputs, places, p_t)
    if elements.layout == "rows":
        # Each label is a unit of its own.
        one, index = np.ones(len(places), np.int32), position[:, np.newaxis]
        classes = targets[places], predictions[places]
        return _Units(example.astype(np.int32), one, *classes, p.astype(np.float32), index, index + 1, position)
    loss = outputs["loss"].reshape(-1)[places].astype(np.float64)
    wrong = WrongElements(example, position, targets[places], predictions[places], loss, p_t)
    region = connected(elements, wrong)
    columns = region_columns(elements, region, np.arange(int(region.max()) + 1), wrong)
    return _Units(
        columns.example.astype(np.int32),
        columns.num_elements.astype(np.int32),
        columns.given.astype(np.int32),
        columns.suggested.astype(np.int32),
        (np.bincount(region, weights=p) / columns.num_elements).astype(np.float32),
        columns.start,
        columns.stop,
        position[np.argsort(region, kind="stable")],
    )


def _p_of_prediction(elements: Elements, outputs: Mapping[str, Array], places: Array, p_t: Array) -> Array:
    """The probabilities of the predictions of wrong elements; NaN where they do not follow from the statistics."""
    if elements.sigmoid:
        return 1 - p_t
    if "normalized_margin" not in outputs:
        return np.full(len(places), np.nan)
    # The margin is (p_t - p_other + 1) / 2, and of a wrong element p_other is that of the prediction.
    margin = outputs["normalized_margin"].reshape(-1)[places].astype(np.float64)
    return np.clip(p_t + 1 - 2 * margin, 0, 1)


def _unit_lists(num_examples: int, found: _Units) -> dict[str, Lists]:
    counts = np.bincount(found.example, minlength=num_examples)
    units, bounds = offsets_of(counts), offsets_of(found.sizes)
    elements = bounds[units]
    num_axes = found.start.shape[1]
    # Of each example 0, and the end of each of its units.
    offsets = np.zeros(len(found.example) + num_examples, np.int32)
    offsets[np.arange(len(found.example)) + found.example + 1] = bounds[1:] - elements[found.example]
    return {
        "unit_offsets": Lists(offsets, units + np.arange(num_examples + 1)),
        "unit_elements": Lists(found.positions, elements),
        "unit_given": Lists(found.given, units),
        "unit_suggested": Lists(found.suggested, units),
        "unit_suggested_p": Lists(found.suggested_p, units),
        "unit_start": Lists(found.start.reshape(-1), units * num_axes),
        "unit_stop": Lists(found.stop.reshape(-1), units * num_axes),
    }


def _logits(elements: Elements) -> Array:
    """The logits in float32; a finite float64 beyond its range becomes its largest number."""
    original = elements.logits
    with np.errstate(over="ignore"):
        logits = original.astype(np.float32)
    if original.dtype == np.float64:
        largest = np.finfo(np.float32).max
        logits = np.where(np.isfinite(original), logits.clip(-largest, largest), logits)
    return logits
