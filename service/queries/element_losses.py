"""Losses of structured examples and of their units, from the stored log-odds of their elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.queries.element_formula import ElementFormula, Floats, Targets, p_of
from service.runs.schema import ELEMENT_SCHEMA, SCORES
from service.schema.structure import TopShare, WithinName

Integers = NDArray[np.int64]

_ROW = [ELEMENT_SCHEMA.field(name) for name in ("epoch", "batch", "row", "id")]
_CLASS = [pa.field("target", pa.int32()), pa.field("prediction", pa.int32())]
_LOSSES = [pa.field(name, pa.float64()) for name in ("loss", "log_loss", "cross_entropy", "p_t")]
_SCORES = [pa.field(name, pa.float32()) for name in SCORES]
_ATTRIBUTES = pa.field("attributes", pa.string())
# Scores that only structured examples have.
ELEMENT_FLOATS = ("label_quality", "max_loss", "loss_sum")
ELEMENT_COUNTS = ("num_valid", "num_wrong", "num_units")
# An example: its loss by `within`, the mean cross-entropy, p_t of its worst element; `loss_sum` adds up its elements.
EXAMPLES = pa.schema(
    [
        *(*_ROW, *_CLASS, *_LOSSES, *_SCORES, _ATTRIBUTES),
        *(pa.field(name, pa.float64()) for name in ELEMENT_FLOATS),
        *(pa.field(name, pa.int32()) for name in ELEMENT_COUNTS),
    ]
)
# A unit: the class of its target and the suggested one, the sums of its losses, the mean p_t, the smallest log-odds.
UNITS = pa.schema(
    [
        *(*_ROW, *_CLASS, *_LOSSES, *_SCORES, _ATTRIBUTES),
        *(pa.field(name, pa.int32()) for name in ("unit", "num_elements")),
        *(pa.field(name, pa.list_(pa.int32())) for name in ("start", "stop")),
        pa.field("suggested_p", pa.float32()),
    ]
)
STORED_FOR_LOSSES = [
    name for name in ELEMENT_SCHEMA.names if name not in ("shape", "predictions", "element_logits", "attributes")
]
# Below it, the logarithm of a loss is computed from those of the elements.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ElementLosses:
    """Computes the losses of stored structured examples.

    Args:
        formula: Computes those of their elements.
        within: How the loss of an example is made of those of its elements.
    """

    formula: ElementFormula
    within: WithinName | TopShare

    def of(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The examples and the units of stored rows, with the columns of `EXAMPLES` and `UNITS`."""
        elements = _Elements.of(rows, self.formula)
        return _examples(rows, elements, self.within), _units(rows, elements)

    def of_elements(self, rows: pa.RecordBatch) -> Floats:
        """(E,) losses of all elements of stored rows, 0 for ignored ones."""
        return _Elements.of(rows, self.formula).loss


@dataclass(frozen=True, eq=False)
class _Elements:
    """The elements of stored rows, flat, with their losses; those of ignored elements are 0.

    Args:
        sizes: (N,) number of elements of each example, one at least.
        starts: (N,) first element of each example.
        counts: (E,) number of elements that each stands for; None if each stands for itself.
        has_counts: (N,) True for examples whose elements stand for several, and have no predictions.
    """

    formula: ElementFormula
    targets: Targets
    log_odds: NDArray[np.float32]
    sizes: Integers
    starts: Integers
    counts: Integers | None
    has_counts: NDArray[np.bool_]
    loss: Floats
    cross_entropy: Floats

    @classmethod
    def of(cls, rows: pa.RecordBatch, formula: ElementFormula) -> _Elements:
        sizes = lengths(rows, "targets").astype(np.int64)
        has_counts: NDArray[np.bool_] = rows["element_counts"].is_valid().to_numpy(zero_copy_only=False)
        counts = element_counts(rows) if has_counts.any() else None
        targets, log_odds = flat(rows, "targets"), flat(rows, "element_log_odds")
        losses = formula.losses(targets, log_odds)
        return cls(formula, targets, log_odds, sizes, np.cumsum(sizes) - sizes, counts, has_counts, *losses)

    def sums(self, values: Floats) -> Floats:
        """(N,) sums of values of the elements of each example."""
        sums: Floats = np.add.reduceat(values if self.counts is None else values * self.counts, self.starts)
        return sums

    def log_losses(self, losses: Floats, sizes: Integers, places: Integers | None = None) -> Floats:
        """Logarithms of the losses of groups of elements; of a loss of almost 0 that of its largest element.

        Args:
            losses: (G,) losses of the groups.
            sizes: (G,) number of elements of each, one at least.
            places: Elements of the groups, one after the other; None for all elements.
        """
        logs = np.log(np.maximum(losses, _TINY))
        tiny = losses < _TINY
        if tiny.any():
            members = np.flatnonzero(np.repeat(tiny, sizes))
            places = members if places is None else places[members]
            starts = np.cumsum(sizes[tiny]) - sizes[tiny]
            of_elements = self.formula.log_losses(self.targets, self.log_odds, places)
            logs[tiny] = np.maximum.reduceat(of_elements, starts)
        return logs


def flat(rows: pa.RecordBatch, name: str) -> NDArray[Any]:
    """The values of a column of lists, of all rows."""
    values: NDArray[Any] = rows[name].flatten().to_numpy(zero_copy_only=False)
    return values


def _examples(rows: pa.RecordBatch, elements: _Elements, within: WithinName | TopShare) -> pa.RecordBatch:
    if not len(rows):
        return pa.RecordBatch.from_pylist([], EXAMPLES)
    starts, num_valid = elements.starts, rows["num_valid"].to_numpy()
    loss_sum, max_loss = elements.sums(elements.loss), np.maximum.reduceat(elements.loss, starts)
    if isinstance(within, TopShare):
        loss = _top_share(elements.loss, starts, num_valid, within.top_share)
    else:
        loss = {"mean": loss_sum / num_valid, "sum": loss_sum, "max": max_loss}[within]
    columns = {
        **{field.name: rows[field.name] for field in (*_ROW, *_SCORES)},
        "loss": loss,
        "log_loss": elements.log_losses(loss, elements.sizes),
        "cross_entropy": elements.sums(elements.cross_entropy) / num_valid,
        "p_t": p_of(rows["log_odds"].to_numpy()),
        "label_quality": rows["label_quality"].to_numpy(),
        "max_loss": max_loss,
        "loss_sum": loss_sum,
        "num_valid": rows["num_valid"],
        # Each wrong element is in one unit.
        "num_wrong": pa.array(lengths(rows, "unit_elements"), mask=elements.has_counts),
        "num_units": lengths(rows, "unit_given"),
    }
    return _batch(columns, len(rows), EXAMPLES)


def _top_share(loss: Floats, starts: Integers, num_valid: NDArray[Any], share: float) -> Floats:
    """The mean of the largest losses of each example; ignored elements have the loss 0 and come last."""
    sizes = np.diff(starts, append=len(loss))
    example = np.repeat(np.arange(len(starts)), sizes)
    order = np.lexsort((-loss, example))
    taken = np.minimum(np.maximum(1, np.ceil(share * num_valid)), num_valid)
    kept = np.arange(len(loss)) - starts[example] < taken[example]
    sums = np.bincount(example[kept], weights=loss[order][kept], minlength=len(starts))
    means: Floats = sums / taken
    return means


def _units(rows: pa.RecordBatch, elements: _Elements) -> pa.RecordBatch:
    example, numbers = unit_numbers(rows)
    if not len(example):
        return pa.RecordBatch.from_pylist([], UNITS)
    sizes, places = unit_places(rows)
    starts = np.cumsum(sizes) - sizes
    loss, z = np.add.reduceat(elements.loss[places], starts), elements.log_odds[places]
    axes = len(flat(rows, "unit_start")) // len(example)
    columns = {
        **{field.name: rows[field.name].take(pa.array(example)) for field in _ROW},
        "target": flat(rows, "unit_given"),
        "prediction": flat(rows, "unit_suggested"),
        "loss": loss,
        "log_loss": elements.log_losses(loss, sizes, places),
        "cross_entropy": np.add.reduceat(elements.cross_entropy[places], starts),
        "p_t": np.add.reduceat(p_of(z), starts) / sizes,
        "log_odds": np.minimum.reduceat(z, starts),
        "unit": numbers,
        "num_elements": sizes,
        "start": _boxes(rows, "unit_start", axes),
        "stop": _boxes(rows, "unit_stop", axes),
        "suggested_p": flat(rows, "unit_suggested_p"),
    }
    return _batch(columns, len(example), UNITS)


def unit_numbers(rows: pa.RecordBatch) -> tuple[Integers, Integers]:
    """The row of each unit of stored rows with `unit_offsets`, and its number in the example of the row, from 0."""
    # Each example has one offset more than units.
    counts = lengths(rows, "unit_offsets").astype(np.int64) - 1
    example = np.repeat(np.arange(len(rows)), counts)
    return example, np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)


def unit_places(rows: pa.RecordBatch) -> tuple[Integers, Integers]:
    """The units of stored rows as places in the flat targets.

    Returns:
        The number of elements of each unit; and the places of these among the elements of all rows, unit by unit.
    """
    ends, offsets = flat(rows, "unit_offsets").astype(np.int64), lengths(rows, "unit_offsets").astype(np.int64)
    # Each example has one offset more than units; the first one of each is 0.
    is_first = np.zeros(len(ends), np.bool_)
    is_first[np.cumsum(offsets) - offsets] = True
    sizes = np.diff(ends, prepend=0)[~is_first]
    elements = lengths(rows, "targets").astype(np.int64)
    starts = np.cumsum(elements) - elements
    return sizes, flat(rows, "unit_elements") + np.repeat(starts, lengths(rows, "unit_elements"))


def _boxes(rows: pa.RecordBatch, name: str, axes: int) -> pa.ListArray:
    values = rows[name].flatten()
    offsets = np.arange(0, len(values) + 1, axes, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def element_counts(rows: pa.RecordBatch) -> Integers:
    """(E,) the number of elements that each element of stored rows stands for."""
    sizes = lengths(rows, "targets")
    counts: Integers = np.ones(int(sizes.sum()), np.int64)
    is_sent = rows["element_counts"].is_valid().to_numpy(zero_copy_only=False)
    counts[np.repeat(is_sent, sizes)] = flat(rows, "element_counts")
    return counts


def lengths(rows: pa.RecordBatch, name: str) -> NDArray[Any]:
    """(N,) lengths of the lists of a column."""
    numbers: NDArray[Any] = rows[name].value_lengths().to_numpy(zero_copy_only=False)
    return numbers


def _batch(columns: dict[str, Any], number: int, schema: pa.Schema) -> pa.RecordBatch:
    """Columns in the order and the types of the schema; missing ones are null."""
    arrays: Iterator[pa.Array] = (
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(number, field.type)
        for field in schema
    )
    return pa.RecordBatch.from_arrays(list(arrays), schema=schema)
