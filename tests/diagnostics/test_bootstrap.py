"""Bootstrap intervals, against scipy's bootstrap and the normal approximation."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from service.diagnostics.bootstrap import (
    GROUPS,
    Resampler,
    basic_interval,
    group_sums,
    percentile_interval,
    random_groups,
)

rng = np.random.default_rng(0)


def test_interval_of_a_mean_is_that_of_scipy():
    values = rng.gamma(2.0, size=300)
    groups, number = random_groups(300)
    low, high = percentile_interval(Resampler(number).resampled(group_sums(groups, number, values))[:, 0] / 300)
    expected = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_groups_have_the_variance_of_their_rows():
    values = rng.gamma(2.0, size=50_001)
    groups, number = random_groups(len(values))
    assert number == GROUPS
    sums = np.hstack([group_sums(groups, number, values), group_sums(groups, number)])
    assert sums.sum(axis=0) == pytest.approx([values.sum(), len(values)])
    resampled = Resampler(number).resampled(sums)
    error = (resampled[:, 0] / resampled[:, 1]).std()
    assert error == pytest.approx(values.std() / len(values) ** 0.5, rel=0.1)


def test_sums_by_bin():
    sums = group_sums(np.array([0, 1, 1, 0]), 2, np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 2, 2]), 3)
    assert sums.tolist() == [[1, 0, 4], [0, 2, 3]]


def test_basic_interval_reverses_and_stays_in_range():
    assert basic_interval(np.linspace(0.3, 0.5, 1001), 0.3) == pytest.approx((0.105, 0.295))
    assert basic_interval(np.linspace(0.1, 0.5, 1001), 0.1) == pytest.approx((0.0, 0.09))


def test_no_finite_sample():
    assert percentile_interval(np.array([np.nan])) == (None, None)
    assert basic_interval(np.array([np.nan]), 0.5) == (None, None)
