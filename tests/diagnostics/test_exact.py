"""Exact bounds, against their definitions with integers and against simulations."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from service.diagnostics.exact import mcnemar, most_wrong


def at_most(wrong, population, bad, sample):
    """P(at most `wrong` in a sample) as a fraction."""
    ways = sum(math.comb(bad, k) * math.comb(population - bad, sample - k) for k in range(wrong + 1))
    return Fraction(ways, math.comb(population, sample))


@pytest.mark.parametrize("population", [1, 2, 7, 20, 43])
def test_bound_is_the_definition(population):
    for sample in range(population + 1):
        for wrong in range(min(sample, 4) + 1):
            possible = range(wrong, population - sample + wrong + 1)
            expected = max(k for k in possible if at_most(wrong, population, k, sample) > Fraction(1, 20))
            assert most_wrong(population, sample, wrong) == expected


def test_close_to_clopper_and_pearson_in_a_large_population():
    share = beta.ppf(0.95, 3 + 1, 200 - 3)
    assert most_wrong(10**7, 200, 3) / 10**7 == pytest.approx(share, rel=1e-3)


def test_known_wrong_labels_only_raise_the_bound():
    bounds = [most_wrong(1000, 30, 0, known) for known in range(0, 300, 10)]
    assert bounds[0] == most_wrong(1000, 30, 0)
    assert bounds == sorted(bounds)
    # 120 wrong labels are known and the 30 random ones have none: bad luck, not a proof that none is left.
    assert 130 < most_wrong(1000, 30, 0, 120) < 250


def test_a_whole_sample_leaves_nothing_open():
    assert most_wrong(40, 40, 3) == 3


@pytest.mark.parametrize(("population", "bad", "sample"), [(8, 1, 4), (25, 5, 10), (400, 60, 50), (50_000, 900, 300)])
def test_covers_in_95_percent_of_samples(population, bad, sample):
    wrong = np.random.default_rng(0).hypergeometric(bad, population - bad, sample, 2000)
    bounds = {int(k): most_wrong(population, sample, int(k)) for k in np.unique(wrong)}
    assert np.mean([bounds[k] >= bad for k in wrong.tolist()]) >= 0.95 - 0.01


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 9), (0, 6), (50, 50), (400, 300)])
def test_mcnemar(first, second):
    expected = binomtest(second, first + second).pvalue if first + second else 1.0
    (p,) = mcnemar(np.array([first]), np.array([second]))
    assert p == pytest.approx(expected)
    # The definition: twice the smaller tail of a fair coin.
    number, least = first + second, min(first, second)
    tail = Fraction(sum(math.comb(number, k) for k in range(least + 1)), 2**number)
    assert p == pytest.approx(min(1.0, 2 * float(tail)))
