"""Sparse counts of pairs of classes against dense matrices, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Integers
from service.diagnostics.pair_counts import SUMMED_AT_ONCE, PairCounter, PairCounts, calibrate
from tests.diagnostics.samples import dense


def calibrate_dense(joint: Integers, counts: Integers) -> Integers:
    """Calibration on dense matrices, in the steps of cleanlab 2.9.0 with a stable sort."""
    if not counts.any():
        return np.zeros_like(joint)
    scaled = np.asfortranarray(joint) / joint.sum(axis=1)[:, None] * counts[:, None]
    scaled = scaled / scaled.sum() * counts.sum()
    rounded: Integers = np.rint(scaled).astype(np.int64)
    missing = counts - rounded.sum(axis=1)
    for row in np.flatnonzero(missing):
        order = np.argsort(scaled[row] - rounded[row], kind="stable")
        order = order[::-1] if missing[row] > 0 else order
        rounded[row, order[: abs(missing[row])]] += np.sign(missing[row])
    return rounded


def sparse(matrix: Integers) -> PairCounts:
    return PairCounts(len(matrix), *np.nonzero(matrix), matrix[matrix != 0])


@st.composite
def joints(draw: st.DrawFn) -> tuple[Integers, Integers]:
    """A confident joint, mostly zeros and with a diagonal of at least 1, and the counts of the classes."""
    classes = draw(st.integers(1, 12))
    entries = draw(hnp.arrays(np.int64, (classes, classes), elements=st.sampled_from([0, 0, 0, 1, 2, 3, 7])))
    counts = draw(hnp.arrays(np.int64, classes, elements=st.integers(0, 9)))
    np.fill_diagonal(entries, entries.diagonal().clip(min=1))
    return entries, counts


@given(joints())
def test_calibration_equals_the_dense_one(inputs: tuple[Integers, Integers]) -> None:
    joint, counts = inputs
    np.testing.assert_array_equal(dense(calibrate(sparse(joint), counts)), calibrate_dense(joint, counts))


@pytest.mark.parametrize("classes", [31, 32, 33, 100, 257, 500])
@pytest.mark.parametrize("seed", range(4))
def test_calibration_of_many_classes_equals_the_dense_one(classes: int, seed: int) -> None:
    # More entries than are summed at once: the order of the sum decides the last bit.
    generator = np.random.default_rng(seed)
    assert classes**2 > SUMMED_AT_ONCE or classes <= 32
    joint = generator.integers(1, 9, (classes, classes)) * (generator.random((classes, classes)) < 4 / classes)
    np.fill_diagonal(joint, joint.diagonal().clip(min=1))
    counts = generator.integers(0, 30, classes)
    np.testing.assert_array_equal(dense(calibrate(sparse(joint), counts)), calibrate_dense(joint, counts))


@given(hnp.arrays(np.int64, st.integers(1, 8).map(lambda n: (n, n)), elements=st.sampled_from([0, 0, 1, 2, 5])))
def test_sums_and_largest_entries_equal_those_of_the_dense_matrix(matrix: Integers) -> None:
    pairs = sparse(matrix)
    np.testing.assert_array_equal(pairs.by_first(), matrix.sum(axis=1))
    np.testing.assert_array_equal(pairs.by_second(), matrix.sum(axis=0))
    np.testing.assert_array_equal(pairs.diagonal(), matrix.diagonal())
    others = matrix - np.diag(matrix.diagonal())
    np.testing.assert_array_equal(pairs.largest_off_diagonal(), np.where(others.any(axis=1), others.argmax(axis=1), -1))
    between = np.triu(matrix + matrix.T, k=1)
    expected = sorted((-between[a, b], a, b) for a, b in np.argwhere(between))
    largest = pairs.largest_pairs()
    assert [*zip(-largest.counts, largest.first, largest.second, strict=True)] == expected
    np.testing.assert_array_equal(largest.counts[:2], pairs.largest_pairs(2).counts)


@given(st.lists(hnp.arrays(np.int64, st.integers(0, 9).map(lambda n: (2, n)), elements=st.integers(0, 4))))
def test_pairs_are_counted_over_chunks(chunks: list[Integers]) -> None:
    counter, expected = PairCounter(5), np.zeros((5, 5), np.int64)
    for first, second in chunks:
        counter.add(first, second)
        np.add.at(expected, (first, second), 1)
    np.testing.assert_array_equal(dense(counter.total()), expected)


def test_more_pairs_are_counted_than_wait_at_once() -> None:
    counter, first = PairCounter(3), np.zeros(30_000, np.int64)
    for _ in range(10):
        counter.add(first, first + 1)
    assert dense(counter.total()).tolist() == [[0, 300_000, 0], [0, 0, 0], [0, 0, 0]]
