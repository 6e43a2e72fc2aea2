"""Label quality of an example from the scores of its elements: low values are probably wrong.

A score is the probability of an element's target, NaN for an element that does not count. The definitions are those of
cleanlab 2.9.0: `internal/multilabel_scorer.py`, `token_classification/rank.py`, `segmentation/rank.py`.
"""

from __future__ import annotations

import numpy as np

from service.diagnostics.chunks import Booleans, Floats, Integers

IMAGE_TEMPERATURE = LABELS_TEMPERATURE = 0.1
TOKENS_TEMPERATURE = 0.05
EMA_ALPHA = 0.8


def softmin(scores: Floats, temperature: float = LABELS_TEMPERATURE) -> Floats:
    """Soft minimum of each row: the mean of its scores with the weights softmax((1 - score) / temperature).

    Args:
        scores: (n, S) in [0, 1], NaN for elements that do not count.
        temperature: > 0; a small one approaches the minimum, a large one the mean.

    Returns:
        (n,) float64, NaN for a row without counted elements.
    """
    weights = np.exp((minimum(scores)[:, None] - scores) / temperature)
    return _weighted_means(scores, weights)


def exponential_moving_average(scores: Floats, alpha: float = EMA_ALPHA) -> Floats:
    """Moving average of each row's scores in descending order, in which the smallest weighs most.

    Args:
        scores: (n, S) in [0, 1], NaN for elements that do not count.
        alpha: In [0, 1], weight of the next smaller score against the average so far.

    Returns:
        (n,) float64, NaN for a row without counted elements.
    """
    average: Floats = np.full(len(scores), np.nan)
    # NaN comes last.
    for column in -np.sort(-scores, axis=1).T:
        following = np.where(np.isnan(average), column, alpha * column + (1 - alpha) * average)
        average = np.where(np.isnan(column), average, following)
    return average


def minimum(scores: Floats) -> Floats:
    """(n,) float64, the smallest score of each row of (n, S); NaN if no element counts."""
    least: Floats = np.fmin.reduce(scores, axis=1, initial=np.nan)
    return least


def mean(scores: Floats) -> Floats:
    """(n,) float64, the mean of the scores of each row of (n, S) that are not NaN; NaN if there is none."""
    return _weighted_means(scores, np.where(np.isnan(scores), np.nan, 1))


def lowest(quality: Floats, number: int) -> Booleans:
    """Mark the examples with the lowest quality, the first ones of equal ones.

    cleanlab's multi-label filters `low_self_confidence` and `low_normalized_margin` mark the examples with the lowest
    moving average, as many as `confident_learning` marks.

    Args:
        quality: (N,) float64, NaN for an example without counted elements, which is never marked.
        number: How many examples to mark.
    """
    marks: Booleans = np.zeros(len(quality), np.bool_)
    marks[np.argsort(quality, kind="stable")[:number]] = True
    return marks & ~np.isnan(quality)


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
    """Soft minimum of each example, see `softmin`; the other arguments are those of `ragged_minimum`."""
    least = np.repeat(ragged_minimum(scores, offsets), np.diff(offsets))
    weights = np.exp((least - scores) / temperature)
    sums = (np.nan_to_num(_ragged(np.add, np.nan_to_num(values), offsets)) for values in (scores * weights, weights))
    return _ratio(*sums)


def _ragged(combine: np.ufunc, values: Floats, offsets: Integers) -> Floats:
    """`combine` over the elements of each example; NaN for an example without elements."""
    result: Floats = np.full(len(offsets) - 1, np.nan)
    present = np.flatnonzero(np.diff(offsets))
    if len(present):
        result[present] = combine.reduceat(values, offsets[present])
    return result


def _weighted_means(scores: Floats, weights: Floats) -> Floats:
    """Means of rows with weights > 0, which are NaN where the scores are."""
    return _ratio(np.nansum(scores * weights, axis=1), np.nansum(weights, axis=1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    ratio: Floats = np.full(len(whole), np.nan)
    return np.divide(part, whole, out=ratio, where=whole > 0)
