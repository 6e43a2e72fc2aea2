"""Errors of invalid elements, which name batch, example, element, class and value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.compute.elements import Elements, Part
from service.errors import InvalidLogitError, InvalidTargetError, LossServiceError
from service.formats.labels import NO_TARGET
from service.loss.arrays import Array, as_tensor
from service.loss.row_state import BAD_TARGET
from service.loss.soft_labels import sum_tolerance
from service.loss.statistics_scores import invalid_values
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.request import MAX_NUM_CLASSES

ERRORS_NAMED = 20


class InvalidExamples(NamedTuple):
    """Examples with an invalid element, in their order; all (K,).

    Args:
        example: Number of the example.
        state: State of its first element with an invalid target, or else of its first with an invalid logit.
        position: Position of that element in the example.
    """

    example: Array
    state: Array
    position: Array

    @classmethod
    def of_part(cls, elements: Elements, part: Part, state: Array) -> InvalidExamples:
        """The invalid examples of a part, from the states of its elements."""
        positions = (state >= BAD_TARGET).nonzero()[0]
        if not len(positions):
            return NO_EXAMPLES
        example, position = part.owners(elements, positions)
        return cls(example, state[positions], position).firsts()

    def firsts(self) -> InvalidExamples:
        """The first entry of each example, by state and position."""
        order = np.lexsort((self.position, self.state, self.example))
        example, first = np.unique(self.example[order], return_index=True)
        return InvalidExamples(example, self.state[order][first], self.position[order][first])

    @classmethod
    def joined(cls, parts: Sequence[InvalidExamples]) -> InvalidExamples:
        """The invalid examples of all parts of a batch."""
        found = [part for part in parts if part is not NO_EXAMPLES]
        return cls(*map(np.concatenate, zip(*found, strict=True))).firsts() if found else NO_EXAMPLES


NO_EXAMPLES = InvalidExamples(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int64))


def invalid_examples_error(
    config: LossConfig, number: int, elements: Elements, invalid: InvalidExamples
) -> LossServiceError:
    """The error of a batch with invalid examples: names the first 20 of them."""
    named = zip(invalid.example[:ERRORS_NAMED].tolist(), invalid.position[:ERRORS_NAMED].tolist(), strict=True)
    errors = [invalid_element_error(config, number, elements, *place) for place in named]
    items = [item for error in errors for item in error.errors]
    others, what = len(invalid.example) - 1, "rows" if elements.layout == "rows" else "examples"
    detail = f"{errors[0].detail} (and {others} more {what})" if others else errors[0].detail
    return type(errors[0])(detail, errors=items)


def invalid_element_error(
    config: LossConfig, number: int, elements: Elements, example: int, position: int
) -> LossServiceError:
    """The fault of an element that was marked invalid."""
    logits, target = elements.values(example, position)
    index = elements.index(example, position)
    if elements.statistics is None:
        faults = _faults(elements)(config, logits, target)
    else:
        faults = _statistics_faults(config, elements.num_classes, elements.statistics_of(example, position), target)
    for kind, part, column, msg in faults:
        return element_fault(elements, kind, msg, part, number, example, index, column)
    raise AssertionError(f"element {index} of example {example}, batch {number}, has no fault")


def element_fault(
    elements: Elements,
    kind: type[LossServiceError],
    msg: str,
    part: str,
    number: int,
    example: int,
    index: tuple[int, ...],
    column: int | None = None,
) -> LossServiceError:
    """The error of an element of a batch, which names its place as the layout has it.

    Args:
        elements: The elements of the batch.
        kind: Class of the error.
        msg: The fault.
        part: Name of the part of the batch that has the fault.
        number: Number of the batch.
        example: Number of the example.
        index: Index of the element; see `Elements.index`.
        column: The class of a logit or of a soft label; None for the element.
    """
    if elements.sigmoid and elements.layout == "rows":
        # An example of several labels is a row with columns.
        return fault(kind, msg, part, batch=number, row=example, column=index[0] if index else 0)
    return fault(kind, msg, part, batch=number, row=example, element=index, column=column)


_STATISTIC_HINTS = {
    "log_odds": ": the loss is undefined or infinite",
    "prediction": " is not the number of a class",
}
Fault = tuple[type[LossServiceError], str, int | None, str]


def _faults(elements: Elements) -> Callable[[LossConfig, Array, Array], Iterator[Fault]]:
    """The function that yields the faults of an element of this kind; the first one is reported."""
    return _sigmoid_faults if elements.sigmoid else _soft_faults if elements.soft else _softmax_faults


def _softmax_faults(config: LossConfig, logits: Array, target: Array) -> Iterator[Fault]:
    label = int(target)
    yield from _class_faults(config, label, len(logits))
    elsewhere = "with label_smoothing" if config.label_smoothing else ""
    yield from _logit_faults(logits, lambda column: "on the target" if column == label else elsewhere)
    yield InvalidLogitError, "logits", label, "differs from the largest other logit by more than float64 holds"


def _statistics_faults(
    config: LossConfig, num_classes: int | None, statistics: Mapping[str, float], target: Array
) -> Iterator[Fault]:
    yield from _class_faults(config, int(target), num_classes or MAX_NUM_CLASSES)
    for name, value in statistics.items():
        if invalid_values(name, as_tensor(np.array([value], np.float64)), num_classes).item():
            yield InvalidLogitError, name, None, f"{name} {_number_text(value)}{_STATISTIC_HINTS.get(name, '')}"


def _class_faults(config: LossConfig, label: int, num_classes: int) -> Iterator[Fault]:
    """The fault of a target that is no class."""
    if label == NO_TARGET:
        yield InvalidTargetError, "targets", None, "no label, or a value that is none"
    elif not 0 <= label < num_classes:
        text = f"target {label} is outside [0, {num_classes}){_ignored(config)}"
        yield InvalidTargetError, "targets", None, text


def _soft_faults(config: LossConfig, logits: Array, labels: Array) -> Iterator[Fault]:
    shares = labels.astype(np.float64)
    for column, share in enumerate(shares.tolist()):
        if not 0 <= share < math.inf:
            text = f"soft label {_number_text(share)} is not in [0, 1]{_ignored(config)}"
            yield InvalidTargetError, "targets", column, text
    if abs(shares.sum() - 1) > sum_tolerance(as_tensor(labels).dtype):
        yield (
            InvalidTargetError,
            "targets",
            None,
            f"the soft labels of the classes add up to {shares.sum():g}, not to 1",
        )
    yield from _logit_faults(logits, lambda column: "on a class with a positive label" if shares[column] > 0 else "")
    column = int(shares.argmax())
    yield InvalidLogitError, "logits", column, "differs from the largest other logit by more than float64 holds"


def _logit_faults(logits: Array, reason: Callable[[int], str]) -> Iterator[Fault]:
    """Faults of the logits of an element; `reason` says why -inf is one for a class, or is empty."""
    for column, value in enumerate(logits.tolist()):
        if math.isnan(value) or value == math.inf:
            yield InvalidLogitError, "logits", column, f"logit {_number_text(value)}"
        elif value == -math.inf and (text := reason(column)):
            yield InvalidLogitError, "logits", column, f"logit -inf {text}: its loss is infinite"


def _sigmoid_faults(config: LossConfig, logit: Array, target: Array) -> Iterator[Fault]:
    value, label = float(logit), target.item()
    if not 0 <= label <= 1:
        text = f"target {_number_text(label)} is outside [0, 1]{_ignored(config)}"
        yield InvalidTargetError, "targets", None, text
    elif value == -math.inf:
        yield InvalidLogitError, "logits", None, "logit -inf on a positive label: its loss is infinite"
    else:
        yield InvalidLogitError, "logits", None, f"logit {_number_text(value)}"


def _ignored(config: LossConfig) -> str:
    return "" if config.ignore_index is None else f" and is not ignore_index ({config.ignore_index})"


def _number_text(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:+}" if math.isinf(value) else f"{value}"
