"""Agreement, against scikit-learn, statsmodels and krippendorff, and textbook values."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from service.diagnostics.agreement import Ratings

# Krippendorff's example of 4 observers and 12 units with gaps.
CLASSIC = """
    1 2 3 3 2 1 4 1 2 . . .
    1 2 3 3 2 2 4 1 2 5 . 3
    . 3 3 3 2 3 4 2 2 5 1 .
    1 2 3 3 2 4 4 1 2 5 1 ."""
# Fleiss' example (1971, as in textbooks): 14 ratings of 10 items in 5 categories.
TEXTBOOK = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def ratings_of(matrix):
    """Ratings of a (raters, items) matrix in which NaN is missing."""
    raters, items = np.nonzero(~np.isnan(matrix))
    return Ratings(items, raters, matrix[raters, items].astype(np.int64))


def matrix_of(text):
    return np.array([[np.nan if value == "." else float(value) for value in line.split()] for line in text.split("\n")])


def random_matrix(seed, raters=4, items=60, categories=4, missing=0.4):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, categories, items)
    matrix = np.where(rng.random((raters, items)) < 0.6, true, rng.integers(0, categories, (raters, items)))
    return np.where(rng.random((raters, items)) < missing, np.nan, matrix.astype(float))


def test_alpha_of_the_classic_example():
    alpha, (low, high) = ratings_of(matrix_of(CLASSIC.strip())).krippendorff()
    assert alpha == pytest.approx(0.743421053, abs=1e-9)
    assert low < alpha < high <= 1


def test_fleiss_of_the_textbook():
    table = np.array(TEXTBOOK)
    matrix = np.array([np.repeat(np.arange(5), row) for row in table], dtype=float).T
    assert ratings_of(matrix).fleiss() == pytest.approx(0.20993070, abs=1e-8)
    assert ratings_of(matrix).fleiss() == pytest.approx(fleiss_kappa(table), abs=1e-12)


def test_cohen_of_the_textbook():
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    ((*pair, agreement, kappa),) = ratings_of(np.array([first, second], dtype=float)).cohen(2)
    assert (pair, agreement, kappa) == ([0, 1, 50], 0.7, pytest.approx(0.4))


@given(seed=st.integers(0, 10_000), categories=st.integers(2, 6), missing=st.sampled_from([0.0, 0.3, 0.7]))
def test_equal_to_the_libraries(seed, categories, missing):
    matrix = random_matrix(seed, categories=categories, missing=missing)
    ratings = ratings_of(matrix)
    assert ratings.krippendorff()[0] == pytest.approx(
        krippendorff.alpha(matrix, level_of_measurement="nominal"), abs=1e-12
    )
    for a, b, common, agreement, kappa in ratings.cohen(len(matrix)):
        both = ~np.isnan(matrix[a]) & ~np.isnan(matrix[b])
        assert common == both.sum()
        assert agreement == pytest.approx(np.mean(matrix[a][both] == matrix[b][both]))
        if len(np.unique(matrix[[a, b]][:, both])) > 1:
            assert kappa == pytest.approx(cohen_kappa_score(matrix[a][both], matrix[b][both]), abs=1e-12)
        else:
            assert kappa is None
    if not missing:
        table = np.stack([(matrix == category).sum(axis=0) for category in range(categories)], axis=1)
        assert ratings.fleiss() == pytest.approx(fleiss_kappa(table), abs=1e-12)


@pytest.mark.parametrize("value", [[[]], [[0.0, 1.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, np.nan], [np.nan, 1.0]]])
def test_nothing_to_compare(value):
    ratings = ratings_of(np.array(value, dtype=float))
    assert ratings.fleiss() is None
    assert ratings.krippendorff() == (None, (None, None))
    assert all(kappa is None for *_, kappa in ratings.cohen(len(value)))


def test_pairs_of_the_first_raters_only():
    ratings = ratings_of(random_matrix(0, raters=5))
    assert [pair for pair in ratings.cohen(5) if pair[1] < 3] == ratings.cohen(3)


@pytest.mark.parametrize("items", [400, pytest.param(3000, marks=pytest.mark.slow)])
def test_interval_covers(items):
    """The alpha of the whole population is in about 95 % of the intervals of samples, also of grouped rows."""
    large = random_matrix(1, items=200_000)
    true, _ = ratings_of(large).krippendorff()
    rng, hits = np.random.default_rng(2), 0
    for _ in range(60):
        _, (low, high) = ratings_of(large[:, rng.choice(large.shape[1], items, replace=False)]).krippendorff()
        hits += low <= true <= high
    assert hits >= 52  # the probability of fewer is below 1 % for a coverage of 95 %


def test_the_same_interval_each_time():
    ratings = ratings_of(random_matrix(3))
    assert ratings.krippendorff() == ratings.krippendorff()
    assert ratings.krippendorff(seed=1) != ratings.krippendorff()
