"""Suggestions of a model that are precise enough to be used without a review, as the reviewed ones prove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Share of right suggestions, and the confidence in it.
PRECISION, CONFIDENCE = 0.95, 0.95
# Reviewed suggestions of the first test, of which at most one may be wrong.
LEAST_SUGGESTIONS = 100


def num_automatic(is_right: Sequence[bool]) -> int:
    """Number of the reviewed suggestions, from the first one, up to which suggestions are precise; 0 if none are.

    Hypotheses "of the first n fewer than PRECISION are right" are tested for n = 100, 150, 225, ... and all, each by
    the lower bound of Clopper and Pearson at CONFIDENCE, until one is not rejected. In such a fixed order all tests
    together err with a probability of at most 1 - CONFIDENCE.

    Args:
        is_right: True for each suggestion that the reviewers confirmed, the most suspicious label first.

    Source: Maurer, Hothorn & Lehmacher 1995 (fixed sequence); Angelopoulos et al. 2021, "Learn then Test".
    """
    passed = 0
    for number in _sizes(len(is_right)):
        if not _is_precise(sum(is_right[:number]), number):
            break
        passed = number
    return passed


def _sizes(total: int) -> Iterator[int]:
    size = LEAST_SUGGESTIONS
    while size < total:
        yield size
        size = size * 3 // 2
    if total >= LEAST_SUGGESTIONS:
        yield total


def _is_precise(right: int, number: int) -> bool:
    """True if PRECISION is below the confidence interval: so many right ones would be rarer than 1 - CONFIDENCE."""
    from scipy.stats import binom

    return bool(binom.sf(right - 1, number, PRECISION) <= 1 - CONFIDENCE)
