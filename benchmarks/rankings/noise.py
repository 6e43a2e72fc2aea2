"""Planted wrong labels of three kinds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
RATE = 0.1


def _uniform(labels: Labels, classes: int, generator: np.random.Generator) -> Labels:
    """A tenth of the labels, each replaced by any other class."""
    wrong = generator.random(len(labels)) < RATE
    return np.where(wrong, (labels + generator.integers(1, classes, len(labels))) % classes, labels)


def _next_class(labels: Labels, classes: int, generator: np.random.Generator) -> Labels:
    """A tenth of the labels, each replaced by the next class."""
    wrong = generator.random(len(labels)) < RATE
    return np.where(wrong, (labels + 1) % classes, labels)


def _by_class(labels: Labels, classes: int, generator: np.random.Generator) -> Labels:
    """Labels of each class at a rate of its own, from 0 to a fifth, replaced by any other class."""
    rates = generator.permutation(np.linspace(0, 2 * RATE, classes))
    wrong = generator.random(len(labels)) < rates[labels]
    return np.where(wrong, (labels + generator.integers(1, classes, len(labels))) % classes, labels)


KINDS: dict[str, Callable[[Labels, int, np.random.Generator], Labels]] = {
    "uniform": _uniform,
    "next-class": _next_class,
    "by-class": _by_class,
}
