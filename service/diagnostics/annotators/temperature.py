"""The temperature that calibrates a model to the labels of annotators, by a search on a grid in two passes.

Grid and bounds are those of cleanlab 2.9.0's ActiveLab. There is a fault in cleanlab: it compares the share of an
example's n-th label, in the order of the classes, with the probability of class n - 1. (Its `value_counts` puts the
counts of labels of type float, as any table with gaps has, at the first classes.) So there are two temperatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.model_votes import Probabilities, voted
from service.diagnostics.chunks import Floats, Integers

COARSE = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
FINE_STEPS = 4
LEAST_P = 1e-30
LOG_LEAST_P = float(np.log(LEAST_P))


class Temperatures(NamedTuple):
    """Two temperatures of a model.

    Args:
        of_cleanlab: That of cleanlab for labels of type float.
        of_labels: The one under which the probabilities fit the shares of the annotators' labels best.
    """

    of_cleanlab: float = 1.0
    of_labels: float = 1.0


def best_temperatures(annotations: Annotations, probabilities: Probabilities) -> Temperatures:
    """Search both temperatures; they are 1 if no example has two annotations.

    Args:
        annotations: The annotations.
        probabilities: Starts a pass.
    """
    if not annotations.has_several.any():
        return Temperatures()
    compared = annotations.votes.ranks, annotations.votes.labels
    grids = [_around(int(place)) for place in _losses(annotations, probabilities, COARSE, compared).argmin(axis=1)]
    union = sorted({*grids[0], *grids[1]})
    losses = _losses(annotations, probabilities, union, compared)
    found = (
        grid[int(np.argmin([of_grid[union.index(one)] for one in grid]))]
        for grid, of_grid in zip(grids, losses, strict=True)
    )
    return Temperatures(*found)


def scaled(p: Floats, temperature: float) -> Floats:
    """Probabilities (n, C) under a temperature."""
    logs = np.log(np.maximum(p, LEAST_P))
    logs -= np.log(np.maximum(p, LEAST_P).sum(axis=1, keepdims=True))
    logs /= temperature
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=1, keepdims=True)
    return logs


def _around(place: int) -> list[float]:
    """The fine grid around a place of the coarse one."""
    steps = list(pairwise(COARSE))
    grid = list[float]()
    if place > 0:
        grid += np.linspace(*steps[place - 1], FINE_STEPS, endpoint=False).tolist()
    if place < len(steps):
        grid += np.linspace(*steps[place], FINE_STEPS + 1).tolist()
    return grid


def _losses(
    annotations: Annotations, probabilities: Probabilities, temperatures: Sequence[float], compared: Sequence[Integers]
) -> Floats:
    """(k, T) float64, the cross-entropy of the labels' shares under each temperature, summed over the examples.

    Args:
        annotations: The annotations.
        probabilities: Starts a pass.
        temperatures: The temperatures.
        compared: k times (v,) int64, the class of which the probability is compared with the share of each vote.
    """
    votes = annotations.votes
    shares = votes.counts / annotations.num_labels[votes.rows]
    sums = np.zeros((len(compared), len(temperatures)))
    done = 0
    for chunk, rows, _ in voted(annotations, probabilities()):
        part, done = slice(done, done + len(rows)), done + len(rows)
        examples, places = np.unique(rows, return_inverse=True)
        p = chunk[examples]
        logs = np.log(p, out=np.full(p.shape, -np.inf), where=p > 0)
        for column, temperature in enumerate(temperatures):
            total = np.log(np.exp(logs / temperature).sum(axis=1))[places]
            for row, classes in enumerate(compared):
                at_votes = logs[places, classes[part]] / temperature - total
                sums[row, column] -= shares[part] @ np.maximum(at_votes, LOG_LEAST_P)
    return sums
