"""The elements of a batch as a run stores them: targets, predictions, log-odds, and units of wrong elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from service.compute.elements import Elements
from service.compute.region_values import RegionColumns, WrongElements, connected, coordinates, region_columns
from service.loss.arrays import Array
from service.schema.structure import Lists

IGNORED = -1


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
    none = np.full(len(targets), IGNORED)
    predictions = outputs["prediction"].reshape(-1) if elements.counts is None else none
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
        lists["element_logits"] = _logits(elements)
    return lists


def element_bounds(elements: Elements) -> Array:
    """(N + 1,) int64, the first element of each example, and the number of all."""
    rows = np.arange(elements.num_examples + 1) if elements.offsets is None else elements.offsets
    return rows.astype(np.int64) * elements.per_row


def class_numbers(elements: Elements, ignore_index: int | None) -> Array:
    """The targets as int64 classes, of sigmoid mode 0 or 1, and `IGNORED`; of the shape of the elements' targets."""
    targets = elements.targets
    classes = (targets > 0.5).astype(np.int64) if elements.sigmoid else targets.astype(np.int64)
    return classes if ignore_index is None else np.where(targets == ignore_index, IGNORED, classes)


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
    places = ((targets != IGNORED) & (predictions != targets) & (predictions >= 0)).nonzero()[0]
    example = np.searchsorted(bounds, places, "right") - 1
    with np.errstate(over="ignore"):
        p_t = 1 / (1 + np.exp(-outputs["log_odds"].reshape(-1)[places].astype(np.float64)))
    wrong = WrongElements(
        example,
        places - bounds[example],
        targets[places],
        predictions[places],
        outputs["loss"].reshape(-1)[places].astype(np.float64),
        p_t,
    )
    axes = coordinates(elements, wrong.position)
    if not len(places):
        return _no_units(elements.num_examples)
    region = connected(elements, wrong)
    columns = region_columns(region, wrong, axes)
    # The number of a region in the order of the first elements, by which the columns are sorted.
    first = np.full(int(region.max()) + 1, len(region))
    np.minimum.at(first, region, np.arange(len(region)))
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")[region]
    of_region = np.argsort(rank, kind="stable")
    p = _p_of_prediction(elements, outputs, places, p_t)
    suggested_p = np.bincount(rank, weights=p) / columns.num_elements
    return _unit_lists(elements.num_examples, wrong, columns, wrong.position[of_region], suggested_p)


def _p_of_prediction(elements: Elements, outputs: Mapping[str, Array], places: Array, p_t: Array) -> Array:
    """The probabilities of the predictions of wrong elements; NaN where they do not follow from the statistics."""
    if elements.sigmoid:
        return 1 - p_t
    if "normalized_margin" not in outputs:
        return np.full(len(places), np.nan)
    # The margin is (p_t - p_other + 1) / 2, and of a wrong element p_other is that of the prediction.
    margin = outputs["normalized_margin"].reshape(-1)[places].astype(np.float64)
    return np.clip(p_t + 1 - 2 * margin, 0, 1)


def _unit_lists(
    num_examples: int, wrong: WrongElements, columns: RegionColumns, positions: Array, suggested_p: Array
) -> dict[str, Lists]:
    units = np.concatenate(([0], np.cumsum(np.bincount(columns.example, minlength=num_examples))))
    elements = np.concatenate(([0], np.cumsum(np.bincount(wrong.example, minlength=num_examples))))
    num_axes = columns.start.shape[1]
    # Of each example 0, and the end of each of its units.
    ends = np.zeros(len(columns.example) + num_examples, np.int64)
    place = np.arange(len(columns.example)) + columns.example + 1
    ends[place] = np.cumsum(columns.num_elements) - elements[columns.example]
    return {
        "unit_offsets": Lists(ends, units + np.arange(num_examples + 1)),
        "unit_elements": Lists(positions, elements),
        "unit_given": Lists(columns.given, units),
        "unit_suggested": Lists(columns.suggested, units),
        "unit_suggested_p": Lists(suggested_p.astype(np.float32), units),
        "unit_start": Lists(columns.start.reshape(-1), units * num_axes),
        "unit_stop": Lists(columns.stop.reshape(-1), units * num_axes),
    }


def _no_units(num_examples: int) -> dict[str, Lists]:
    nothing = Lists(np.empty(0, np.int64), np.zeros(num_examples + 1, np.int64))
    names = ("unit_elements", "unit_given", "unit_suggested", "unit_start", "unit_stop")
    return {
        "unit_offsets": Lists(np.zeros(num_examples, np.int64), np.arange(num_examples + 1)),
        **dict.fromkeys(names, nothing),
        "unit_suggested_p": Lists(np.empty(0, np.float32), nothing.offsets),
    }


def _logits(elements: Elements) -> Lists:
    """The logits in float32; a finite float64 beyond its range becomes its largest number."""
    original = elements.logits
    with np.errstate(over="ignore"):
        logits = original.astype(np.float32)
    if original.dtype == np.float64:
        largest = np.finfo(np.float32).max
        logits = np.where(np.isfinite(original), logits.clip(-largest, largest), logits)
    rows = np.arange(elements.num_examples + 1) if elements.offsets is None else elements.offsets
    return Lists(logits.reshape(-1), rows * (logits.shape[1] * (logits.shape[2] if logits.ndim == 3 else 1)))
