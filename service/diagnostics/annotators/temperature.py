"""The temperature that calibrates a model to the labels of annotators, by a search on a grid in two passes.

Grid and bounds are those of cleanlab 2.9.0's ActiveLab, and so is a fault, so that the temperature is the same: the
share of an example's n-th label, in the order of the classes, is compared with the probability of class n - 1. (Its
`value_counts` puts the counts of labels of type float, as any table with gaps has, at the first classes.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.model_votes import Probabilities, voted
from service.diagnostics.chunks import Floats

COARSE = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
FINE_STEPS = 4
LEAST_P = 1e-30


def best_temperature(annotations: Annotations, probabilities: Probabilities) -> float:
    """The temperature under which the model's probabilities fit the shares of the annotators' labels best.

    Args:
        annotations: The annotations.
        probabilities: Starts a pass.
    """
    coarse = int(np.argmin(_losses(annotations, probabilities, COARSE)))
    fine = _around(coarse)
    return fine[int(np.argmin(_losses(annotations, probabilities, fine)))]


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


def _losses(annotations: Annotations, probabilities: Probabilities, temperatures: Sequence[float]) -> Floats:
    """(T,) float64, the cross-entropy of the labels' shares under each temperature, summed over the examples."""
    votes = annotations.votes
    shares = votes.counts / annotations.num_labels[votes.rows]
    sums = np.zeros(len(temperatures))
    done = 0
    for logs, rows in _log_votes(annotations, probabilities, temperatures):
        share = shares[done : done + rows]
        sums -= share @ np.maximum(logs, np.log(LEAST_P))
        done += rows
    return sums


def _log_votes(
    annotations: Annotations, probabilities: Probabilities, temperatures: Sequence[float]
) -> Iterator[tuple[Floats, int]]:
    """Logarithms (n, T) of the probabilities of votes under each temperature, and their number, by chunk."""
    done = 0
    for chunk, rows, _ in voted(annotations, probabilities()):
        examples, places = np.unique(rows, return_inverse=True)
        compared = annotations.votes.ranks[done : done + len(rows)]
        done += len(rows)
        p = chunk[examples]
        logs = np.log(p, out=np.full(p.shape, -np.inf), where=p > 0)
        at_votes = logs[places, compared]
        columns = [at_votes / one - np.log(np.exp(logs / one).sum(axis=1))[places] for one in temperatures]
        yield np.stack(columns, axis=1), len(rows)
