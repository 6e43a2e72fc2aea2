"""Sums by pair of classes, against a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.diagnostics.pair_sums import PairSums

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(-9, 9)), max_size=20)


@given(st.lists(PAIRS, max_size=8))
def test_sums_of_chunks(chunks: list[list[tuple[int, int, int]]]) -> None:
    sums, expected = PairSums(3, 2), defaultdict[tuple[int, int], int](int)
    for chunk in chunks:
        first, second, values = np.array(chunk, np.int64).reshape(-1, 3).T
        sums.add(first, second.astype(np.int32), np.stack([values * 1.0, np.ones(len(values))]))
        for a, b, value in chunk:
            expected[a, b] += value
    total = sums.total()
    pairs = list(zip(total.first.tolist(), total.second.tolist(), strict=True))
    assert pairs == sorted(expected)
    assert dict(zip(pairs, total.sums[0].tolist(), strict=True)) == expected
    assert total.sums[1].sum() == sum(map(len, chunks))
