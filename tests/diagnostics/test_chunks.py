"""Chunks, the softmax of their rows, and exact sums of probabilities."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Chunk, ProbabilitySums, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 1e3])
def test_softmax_equals_that_of_scipy(dtype: type, scale: float) -> None:
    logits = (np.random.default_rng(0).normal(size=(50, 17)) * scale).astype(dtype)
    before = logits.copy()
    p = softmax(logits)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, scipy.special.softmax(logits.astype(np.float64), axis=1), rtol=1e-13)
    np.testing.assert_array_equal(logits, before)


def test_softmax_of_a_masked_class_is_zero() -> None:
    assert softmax(np.array([[-math.inf, 3, 3], [0, -math.inf, -math.inf]])).tolist() == [[0, 0.5, 0.5], [1, 0, 0]]


@pytest.mark.parametrize("classes", [2, 9, 300])
def test_softmax_of_a_row_depends_on_neither_other_rows_nor_the_memory_layout(classes: int) -> None:
    logits = np.random.default_rng(0).normal(size=(65, classes))
    whole = softmax(logits)
    np.testing.assert_array_equal(softmax(np.asfortranarray(logits)), whole)
    for row in range(65):
        np.testing.assert_array_equal(softmax(logits[row : row + 1])[0], whole[row])


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_sums_are_exact_to_half_a_unit(values: np.ndarray[Any, Any], random: Any) -> None:
    groups = np.array([random.randrange(3) for _ in values], dtype=np.int64)
    sums = ProbabilitySums(4)
    cut = random.randint(0, len(values))
    sums.add(groups[:cut], values[:cut])
    sums.add(groups[cut:], values[cut:])
    # Fractions round half to even, like the halves of 26 bits.
    exact = [[Fraction(round(Fraction(v) * 2**52), 2**52) for v in values[groups == k]] for k in range(4)]
    means = [float(sum(part) / len(part)) if part else -1.0 for part in exact]
    assert sums.means(empty=-1).tolist() == means
    assert sums.counts.tolist() == [len(part) for part in exact]


def test_the_mean_of_many_equal_values_is_that_value() -> None:
    sums = ProbabilitySums(1)
    for _ in range(100):
        sums.add(np.zeros(1000, np.int64), np.full(1000, 0.3))
    assert abs(sums.means(empty=0)[0] - 0.3) <= 2**-53


@pytest.mark.parametrize(
    ("targets", "shape", "message"),
    [
        ([0, 1], (3, 2), "2 targets need as many rows"),
        ([0, 1], (2,), "2 targets need as many rows"),
        ([0, 2], (2, 2), r"\[0, 2\)"),
        ([-1, 0], (2, 2), r"\[0, 2\)"),
    ],
)
def test_an_inconsistent_chunk_is_rejected(targets: list[int], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chunk(np.array(targets), np.zeros(shape))
