"""The search for cutoffs, against sorting all values."""

from __future__ import annotations

import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.diagnostics.elements import cutoffs
from service.diagnostics.elements.cutoffs import ALL, CutoffSearch, Taker


def search(groups: Integers, values: Floats, wanted: Integers, least: float = -1, size: int = 10**6) -> Booleans:
    """Mark the values, whose passes are made in chunks of `size`."""
    found = CutoffSearch(len(wanted), least)
    chunks = [slice(start, start + size) for start in range(0, len(values), size)]
    while not found.finished:
        for chunk in chunks:
            needed = values[chunk] >= found.least[groups[chunk]]
            found.add(groups[chunk][needed], values[chunk][needed])
        found.narrow(wanted)
    taker = Taker(found.cutoffs)
    return np.concatenate([np.zeros(0, np.bool_), *(taker.take(groups[chunk], values[chunk]) for chunk in chunks)])


def sorted_mask(groups: Integers, values: Floats, wanted: Integers) -> Booleans:
    mask = np.zeros(len(values), np.bool_)
    for group, number in enumerate(wanted):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(-values[members], kind="stable")]
        mask[order if number == ALL else order[:number]] = True
    return mask


@given(
    st.integers(1, 4),
    st.lists(st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 0.25, 1.0, 1 - 2**-53])), max_size=40),
    st.data(),
    st.sampled_from([-1.0, -0.25, 0.0]),
    st.sampled_from([1, 3, 100]),
    st.sampled_from([(2**20, 2**18, 4), (8, 4, 1)]),
)
def test_equals_sorting(
    num_groups: int, values: list[float], data: st.DataObject, least: float, size: int, bounds: tuple[int, int, int]
) -> None:
    groups = data.draw(hnp.arrays(np.int64, len(values), elements=st.integers(0, num_groups - 1)))
    wanted = data.draw(hnp.arrays(np.int64, num_groups, elements=st.integers(ALL, 12)))
    with mock.patch.multiple(cutoffs, _MAX_BINS=bounds[0], _MAX_COLLECTED=bounds[1], _MIN_COLLECTED=bounds[2]):
        mask = search(groups, np.array(values), wanted, least, size)
    np.testing.assert_array_equal(mask, sorted_mask(groups, np.array(values), wanted))


@pytest.mark.parametrize("num_groups", [1, 300])
def test_random_values_need_three_passes_at_most(num_groups: int) -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, num_groups, 200_000)
    values = generator.normal(0, 0.3, 200_000).clip(-1, 1)
    wanted = generator.integers(0, 300, num_groups)
    found = CutoffSearch(num_groups)
    passes = 0
    while not found.finished:
        found.add(groups, values)
        found.narrow(wanted)
        passes += 1
    assert passes <= 3
    np.testing.assert_array_equal(Taker(found.cutoffs).take(groups, values), sorted_mask(groups, values, wanted))


def test_memory_does_not_grow_with_equal_values() -> None:
    groups, values = np.zeros(1000, np.int64), np.ones(1000)

    def peak(chunks: int) -> int:
        tracemalloc.start()
        found = CutoffSearch(1)
        while not found.finished:
            for _ in range(chunks):
                found.add(groups, values)
            found.narrow(np.array([chunks * 500]))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.cutoffs.values.tolist() == [1]
        assert found.cutoffs.ties.tolist() == [chunks * 500]
        return highest

    assert peak(100) < peak(10) + 10_000
