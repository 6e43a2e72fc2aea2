"""Losses of structured examples and of their units, from the stored log-odds of their elements.

With z = log(p_t / (1 - p_t)), cross-entropy is softplus(-z) and log(1 - p_t) = -softplus(z), so the focal loss is
alpha_t exp(-gamma softplus(z)) softplus(-z). An asymmetric loss (`gamma_negative`, `clip`) of a negative label follows
from z as well, since p_t = 1 - p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.queries.weighting import Weighting
from service.runs.schema import ELEMENT_SCHEMA, SCORES
from service.schema.config import LossConfig
from service.schema.structure import Task, TopShare, WithinName

Floats = NDArray[np.float64]
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
STORED_FOR_LOSSES = [name for name in ELEMENT_SCHEMA.names if name not in ("element_logits", "attributes")]
# Below it, the logarithm of a loss is computed from those of the elements.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ElementLosses:
    """Computes the losses of stored structured examples.

    Args:
        config: Configuration of the run.
        task: Task of the run.
        within: How the loss of an example is made of those of its elements.
        weighting: Class weights and gamma in place of those of the configuration; of the task `multi_label`, alpha has
            one weight of positive labels, or one for each label.
    """

    config: LossConfig
    task: Task
    within: WithinName | TopShare
    weighting: Weighting

    def of(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The examples and the units of stored rows, with the columns of `EXAMPLES` and `UNITS`."""
        elements = _Elements.of(rows)
        values = self._values(elements)
        return _examples(rows, elements, values, self.within), _units(rows, elements, values)

    def of_elements(self, rows: pa.RecordBatch) -> Floats:
        """(E,) losses of all elements of stored rows, 0 for ignored ones."""
        return self._values(_Elements.of(rows)).loss

    def _values(self, elements: _Elements) -> _Values:
        targets, counted = elements.targets, elements.targets >= 0
        z = np.clip(elements.log_odds.astype(np.float64), -1e30, 1e30)
        alpha, gamma = self._alpha(elements), self._gamma(targets)
        e = np.exp(-np.abs(z))
        log1p_e = np.log1p(e)
        cross_entropy = np.maximum(-z, 0) + log1p_e
        p_t = np.where(z >= 0, 1, e) / (1 + e)
        softened, softplus = cross_entropy, np.maximum(z, 0) + log1p_e
        if self.config.clip:
            softened, softplus = _clipped(self.config.clip, targets, p_t, cross_entropy, softplus)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.where(softened > 0, alpha * np.exp(-gamma * softplus) * softened, 0)
            log_softened = np.where(softened > 0, np.log(softened), -np.inf if self.config.clip else -z)
            log_loss = np.log(alpha) - gamma * softplus + log_softened
        return _Values(
            z=z,
            p_t=p_t,
            cross_entropy=np.where(counted, cross_entropy, 0),
            loss=np.where(counted, loss, 0),
            log_loss=np.where(counted & ~np.isnan(log_loss), log_loss, -np.inf),
        )

    def _alpha(self, elements: _Elements) -> Floats:
        """The weight of the target of each element."""
        weights, targets = self.weighting.alpha, np.maximum(elements.targets, 0)
        if weights is None:
            return np.ones(len(targets))
        table = np.array(weights)
        if self.task != "multi_label":
            return table[targets]
        positive = table[elements.position] if len(table) > 1 else table[0]
        return np.where(targets == 1, positive, 1 - positive)

    def _gamma(self, targets: Integers) -> float | Floats:
        other = self.config.gamma_negative
        if self.config.mode == "softmax" or other is None:
            return self.weighting.gamma
        return np.where(targets == 1, self.weighting.gamma, other)


def _clipped(
    clip: float, targets: Integers, p_t: Floats, cross_entropy: Floats, softplus: Floats
) -> tuple[Floats, Floats]:
    """Cross-entropy and -log(1 - p_t) of negative labels whose p is lowered by `clip`, and of the others unchanged."""
    p = np.maximum(1 - p_t - clip, 0)
    with np.errstate(divide="ignore"):
        lowered = -np.log1p(-p), -np.log(p)
    negative = targets == 0
    return np.where(negative, lowered[0], cross_entropy), np.where(negative, lowered[1], softplus)


@dataclass(frozen=True, eq=False)
class _Elements:
    """The elements of stored rows, flat.

    Args:
        starts: (N,) first element of each example; every example has one at least.
        position: (E,) position in the example.
        counts: (E,) number of elements that each stands for.
        has_counts: (N,) True for examples whose elements stand for several, and have no predictions.
    """

    targets: Integers
    predictions: Integers
    log_odds: NDArray[np.float32]
    starts: Integers
    position: Integers
    counts: Integers
    has_counts: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> _Elements:
        sizes = rows["targets"].value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        ends = np.cumsum(sizes)
        starts = ends - sizes
        position = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(starts, sizes)
        has_counts: NDArray[np.bool_] = rows["element_counts"].is_valid().to_numpy(zero_copy_only=False)
        return cls(
            flat(rows, "targets").astype(np.int64),
            flat(rows, "predictions"),
            flat(rows, "element_log_odds"),
            starts,
            position,
            element_counts(rows),
            has_counts,
        )


@dataclass(frozen=True, eq=False)
class _Values:
    """Scores of elements; the losses of ignored ones are 0."""

    z: Floats
    p_t: Floats
    cross_entropy: Floats
    loss: Floats
    log_loss: Floats


def flat(rows: pa.RecordBatch, name: str) -> NDArray[Any]:
    """The values of a column of lists, of all rows."""
    values: NDArray[Any] = rows[name].flatten().to_numpy(zero_copy_only=False)
    return values


def _examples(
    rows: pa.RecordBatch, elements: _Elements, values: _Values, within: WithinName | TopShare
) -> pa.RecordBatch:
    if not len(rows):
        return pa.RecordBatch.from_pylist([], EXAMPLES)
    starts, num_valid = elements.starts, rows["num_valid"].to_numpy()
    losses, max_loss = values.loss * elements.counts, np.maximum.reduceat(values.loss, starts)
    loss_sum = np.add.reduceat(losses, starts)
    max_log = np.maximum.reduceat(values.log_loss, starts)
    wrong = (elements.targets >= 0) & (elements.targets != elements.predictions)
    if isinstance(within, TopShare):
        loss = _top_share(values.loss, starts, num_valid, within.top_share)
    else:
        loss = {"mean": loss_sum / num_valid, "sum": loss_sum, "max": max_loss}[within]
    z = rows["log_odds"].to_numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        p_t = 1 / (1 + np.exp(-z))
    columns = {
        **{field.name: rows[field.name] for field in (*_ROW, *_SCORES)},
        "loss": loss,
        "log_loss": np.where(loss >= _TINY, np.log(np.maximum(loss, _TINY)), max_log),
        "cross_entropy": np.add.reduceat(values.cross_entropy * elements.counts, starts) / num_valid,
        "p_t": p_t,
        "label_quality": rows["label_quality"].to_numpy(),
        "max_loss": max_loss,
        "loss_sum": loss_sum,
        "num_valid": rows["num_valid"],
        "num_wrong": pa.array(np.add.reduceat(wrong.astype(np.int32), starts), mask=elements.has_counts),
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


def _units(rows: pa.RecordBatch, elements: _Elements, values: _Values) -> pa.RecordBatch:
    counts = lengths(rows, "unit_given").astype(np.int64)
    example = np.repeat(np.arange(len(rows)), counts)
    if not len(example):
        return pa.RecordBatch.from_pylist([], UNITS)
    sizes, places = unit_places(rows)
    starts = np.cumsum(sizes) - sizes
    loss = np.add.reduceat(values.loss[places], starts)
    max_log = np.maximum.reduceat(values.log_loss[places], starts)
    axes = len(flat(rows, "unit_start")) // len(example)
    columns = {
        **{field.name: rows[field.name].take(pa.array(example)) for field in _ROW},
        "target": flat(rows, "unit_given"),
        "prediction": flat(rows, "unit_suggested"),
        "loss": loss,
        "log_loss": np.where(loss >= _TINY, np.log(np.maximum(loss, _TINY)), max_log),
        "cross_entropy": np.add.reduceat(values.cross_entropy[places], starts),
        "p_t": np.add.reduceat(values.p_t[places], starts) / sizes,
        "log_odds": np.minimum.reduceat(values.z[places], starts).astype(np.float32),
        "unit": np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts),
        "num_elements": sizes,
        "start": _boxes(rows, "unit_start", axes),
        "stop": _boxes(rows, "unit_stop", axes),
        "suggested_p": flat(rows, "unit_suggested_p"),
    }
    return _batch(columns, len(example), UNITS)


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
