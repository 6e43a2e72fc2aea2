"""Exact statements about counts: wrong labels that a random sample leaves possible, and McNemar's test."""

from __future__ import annotations

import numpy as np

from service.diagnostics.chunks import Floats, Integers

CONFIDENCE = 0.95


def most_wrong(population: int, sample: int, wrong: int, known: int = 0, confidence: float = CONFIDENCE) -> int:
    """Upper confidence bound of the wrong labels in a finite population, from a random sample without replacement.

    The largest number K for which the sample still has at most `wrong` wrong labels with a probability above
    1 - confidence (hypergeometric distribution). `known` wrong labels are there in any case: that probability is
    compared with (1 - confidence) times the one for K = known, so an unlucky sample cannot contradict them. This only
    raises the bound (the CLs method, Read 2002), so at least the share `confidence` of all samples has a true bound.

    Args:
        population: Number of labels.
        sample: Number of labels in the sample, in [0, population].
        wrong: Number of wrong labels in the sample.
        known: Number of labels of the population that are known to be wrong, those of the sample among them.
        confidence: In (0, 1).
    """
    from scipy.stats import hypergeom

    known = max(known, wrong)
    least = (1 - confidence) * float(hypergeom.cdf(wrong, population, known, sample))
    low, high = known, population - (sample - wrong)
    while low < high:
        middle = (low + high + 1) // 2
        if float(hypergeom.cdf(wrong, population, middle, sample)) > least:
            low = middle
        else:
            high = middle - 1
    return low


def mcnemar(only_first: Integers, only_second: Integers) -> Floats:
    """Two-sided p-values of McNemar's exact test of equal accuracy of two models on the same examples.

    Args:
        only_first: (n,) int64, numbers of examples that only the first model predicts right.
        only_second: (n,) int64, numbers of examples that only the second model predicts right.
    """
    from scipy.stats import binom

    tail = binom.cdf(np.minimum(only_first, only_second), only_first + only_second, 0.5)
    return np.minimum(1.0, 2 * np.asarray(tail, dtype=np.float64))
