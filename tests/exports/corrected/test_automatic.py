"""Suggestions that are used without a review: only where the reviewed ones prove that they are precise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from service.exports.corrected.automatic import CONFIDENCE, PRECISION, num_automatic


@pytest.mark.parametrize(
    ("is_right", "number"),
    [
        ([], 0),
        ([True] * 99, 0),
        ([True] * 100, 100),
        ([False] + [True] * 99, 100),
        ([False, False] + [True] * 98, 0),
        ([True] * 160, 160),
        ([True] * 110 + [False] * 20, 100),
        ([True] * 300 + [False] * 100, 225),
        ([False] * 100 + [True] * 1000, 0),
    ],
)
def test_it_ends_before_the_suggestions_that_are_not_precise(is_right: list[bool], number: int) -> None:
    assert num_automatic(is_right) == number


@pytest.mark.parametrize("total", [100, 150, 337])
def test_the_bound_is_that_of_clopper_and_pearson(total: int) -> None:
    for right in range(total - 30, total):
        low = beta.ppf(1 - CONFIDENCE, right, total - right + 1)
        # All wrong ones come last, so the whole list is the last test.
        found = num_automatic([True] * right + [False] * (total - right))
        assert (found == total) == (low >= PRECISION)


def test_imprecise_suggestions_pass_in_at_most_five_percent_of_the_cases() -> None:
    rng = np.random.default_rng(0)
    # At 95 % precision exactly, any number of tests that passes is an error.
    passed = [num_automatic((rng.random(400) < PRECISION - 1e-9).tolist()) > 0 for _ in range(1000)]
    # Three standard deviations of the share of 1000 simulations.
    assert np.mean(passed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_the_part_that_passes_is_precise_in_95_percent_of_the_cases() -> None:
    rng = np.random.default_rng(1)
    # Precision falls with the margin: the first n are precise on average up to n = 250.
    p = np.linspace(1, 0.9, 500)
    mean = np.cumsum(p) / np.arange(1, 501)
    found = [num_automatic((rng.random(500) < p).tolist()) for _ in range(1000)]
    wrong = [number > 0 and mean[number - 1] < PRECISION for number in found]
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.median(found) >= 150
