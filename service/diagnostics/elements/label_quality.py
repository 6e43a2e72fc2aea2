"""Label quality of an example from the scores of its elements: low values are probably wrong.

A score is the probability of an element's target. The definitions are those of cleanlab 2.9.0
(`internal/multilabel_scorer.py`, `token_classification/rank.py`, `segmentation/rank.py`).
"""

from __future__ import annotations

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers

IMAGE_TEMPERATURE = LABELS_TEMPERATURE = 0.1
TOKENS_TEMPERATURE = 0.05
EMA_ALPHA = 0.8


def softmin(scores: Floats, counted: Booleans | None = None, temperature: float = LABELS_TEMPERATURE) -> Floats:
    """Soft minimum of each row: the mean of its scores with the weights softmax((1 - score) / temperature).

    Args:
        scores: (n, L) in [0, 1].
        counted: (n, L) bool, elements that count; None for all.
        temperature: > 0; a small one approaches the minimum, a large one the mean.

    Returns:
        (n,) float64, NaN for a row without counted elements.
    """
    if counted is None:
        counted = np.ones(scores.shape, np.bool_)
    scores = np.where(counted, scores, np.inf)
    least = scores.min(axis=1, initial=np.inf, keepdims=True)
    weights = np.exp((np.where(counted, least, 0) - np.where(counted, scores, np.inf)) / temperature)
    return _weighted_means(np.where(counted, scores, 0), weights)


def exponential_moving_average(scores: Floats, counted: Booleans | None = None, alpha: float = EMA_ALPHA) -> Floats:
    """Moving average of each row's scores in descending order, in which the smallest weighs most.

    Args:
        scores: (n, L) in [0, 1].
        counted: (n, L) bool, elements that count; None for all.
        alpha: In [0, 1], weight of the next smaller score against the average so far.

    Returns:
        (n,) float64, NaN for a row without counted elements.
    """
    descending = -np.sort(-(scores if counted is None else np.where(counted, scores, np.nan)), axis=1)
    average: Floats = np.full(len(scores), np.nan)
    for column in descending.T:
        # NaN, the elements that do not count, comes last.
        following = np.where(np.isnan(average), column, alpha * column + (1 - alpha) * average)
        average = np.where(np.isnan(column), average, following)
    return average


def minimum(scores: Floats, counted: Booleans | None = None) -> Floats:
    """(n,) float64, the smallest counted score of each row of (n, L); NaN without one."""
    if counted is None:
        counted = np.ones(scores.shape, np.bool_)
    least = np.where(counted, scores, np.inf).min(axis=1, initial=np.inf)
    return np.where(counted.any(axis=1), least, np.nan)


def mean(scores: Floats, counted: Booleans | None = None) -> Floats:
    """(n,) float64, the mean of the counted scores of each row of (n, L); NaN without one."""
    if counted is None:
        counted = np.ones(scores.shape, np.bool_)
    return _weighted_means(np.where(counted, scores, 0), counted.astype(np.float64))


def ragged_minimum(scores: Floats, offsets: Integers) -> Floats:
    """Smallest score of each example.

    Args:
        scores: (T,) in [0, 1], NaN for elements that do not count.
        offsets: (N + 1,) from 0 to T, never falling: example i has the elements from offsets[i] to offsets[i + 1].

    Returns:
        (N,) float64, NaN for an example without counted elements.
    """
    return _ragged(np.fmin, scores, offsets)


def ragged_softmin(scores: Floats, offsets: Integers, temperature: float = TOKENS_TEMPERATURE) -> Floats:
    """Soft minimum of each example, see `softmin`; the arguments are those of `ragged_minimum`."""
    least = np.repeat(ragged_minimum(scores, offsets), np.diff(offsets))
    counted = ~np.isnan(scores)
    weights = np.where(counted, np.exp((least - scores) / temperature), 0)
    total = _ragged(np.add, weights, offsets)
    weighted = _ragged(np.add, np.where(counted, scores, 0) * weights, offsets)
    return _ratio(weighted, np.nan_to_num(total))


def _ragged(combine: np.ufunc, values: Floats, offsets: Integers) -> Floats:
    """`combine` over the elements of each example; NaN for an example without elements."""
    result: Floats = np.full(len(offsets) - 1, np.nan)
    present = np.flatnonzero(np.diff(offsets))
    if len(present):
        result[present] = combine.reduceat(values, offsets[present])
    return result


def _weighted_means(scores: Floats, weights: Floats) -> Floats:
    return _ratio(np.einsum("ij,ij->i", scores, weights), weights.sum(axis=1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    ratio: Floats = np.full(len(whole), np.nan)
    return np.divide(part, whole, out=ratio, where=whole > 0)
