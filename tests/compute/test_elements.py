"""The parts of a batch: their sizes, the elements in them, and the memory that their scores take."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compute.elements import Elements, Segments, split
from service.compute.shapes import elements_of
from service.schema.config import LossConfig
from service.schema.request import Batch, RequestOptions
from tests.compute.sample_requests import Limits, compute
from tests.compute.structured import Structured, structured_batches


def elements(case: Structured) -> Elements:
    return elements_of(LossConfig.parse(case.config), RequestOptions.parse({"layout": case.layout}), 0, case.batch)


class TestSplit:
    @given(case=structured_batches(), most=st.integers(1, 20), whole=st.booleans())
    def test_each_element_is_in_one_part(self, case: Structured, most: int, whole: bool) -> None:
        batch, found = elements(case), []
        numbers = np.arange(np.prod(batch.grid)).reshape(batch.grid)
        stored = np.empty(batch.grid, np.int64)
        for part in split(batch, most, whole=whole):
            inside = numbers[part.rows, :, part.places].reshape(-1)
            assert len(inside) == part.segments.sizes.sum()
            assert part.of(batch.logits, by_class=True).shape[0] == numbers[part.rows].shape[0]
            example, position = part.owners(batch, np.arange(len(inside)))
            found += zip(example.tolist(), position.tolist(), strict=True)
            part.store(batch, inside, stored)
            is_one = part.segments.count == 1
            assert len(inside) <= most or (is_one and whole) or numbers[part.rows, :, part.places].shape[::2] == (1, 1)
            assert part.is_whole(batch) or (is_one and not whole)
        sizes = map(len, case.examples)
        assert sorted(found) == [(example, place) for example, size in enumerate(sizes) for place in range(size)]
        np.testing.assert_array_equal(stored, numbers)

    @given(case=structured_batches())
    def test_the_index_of_an_element_finds_its_target(self, case: Structured) -> None:
        batch = elements(case)
        for example, values in enumerate(case.examples):
            for position in range(len(values)):
                index = batch.index(example, position)
                row = example
                if batch.offsets is not None:
                    row, index = int(batch.offsets[example]) + index[0], index[1:]
                assert batch.values(example, position)[1] == case.batch.targets[(row, *index)]


class TestSegments:
    VALUES = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.0])

    @pytest.mark.parametrize("segments", [Segments(2, 3), Segments(2, bounds=np.array([0, 3, 6]))])
    def test_segments_of_equal_length(self, segments: Segments) -> None:
        assert segments.reduce(np.add, self.VALUES, 0.0).tolist() == [6, 9]
        assert segments.reduce(np.minimum, self.VALUES, np.inf).tolist() == [1, 0]
        np.testing.assert_allclose(segments.log_sum_exp(np.log(self.VALUES + 1)), np.log([9, 12]))
        largest, parts = segments.largest(self.VALUES, np.array([2, 1]))
        assert (largest.tolist(), parts.sizes.tolist()) == ([3, 2, 5], [2, 1])

    def test_empty_segments(self) -> None:
        segments = Segments(4, bounds=np.array([0, 0, 4, 4, 6]))
        assert segments.reduce(np.maximum, self.VALUES, -np.inf).tolist() == [-np.inf, 5, -np.inf, 4]
        assert segments.log_sum_exp(self.VALUES)[[0, 2]].tolist() == [-np.inf, -np.inf]
        assert Segments(3, 0).reduce(np.add, np.empty(0), 0.0).tolist() == [0, 0, 0]


def test_memory_does_not_grow_with_the_masks_of_a_batch() -> None:
    """Scores of one mask take 25 bytes a pixel; those of the next one take their place."""
    logits, targets = np.zeros((6, 2, 512, 512), np.float32), np.zeros((6, 512, 512), np.int64)
    limits = Limits(2**30, 10)
    compute([Batch(logits[:1], targets[:1])], layout="dense", limits=limits)
    tracemalloc.start()
    try:
        compute([Batch(logits, targets)], layout="dense", limits=limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 28 * 512 * 512


def test_memory_does_not_grow_with_the_labels_of_a_row() -> None:
    """Scores take 29 bytes a label; those of the next part of a row take their place."""
    logits, targets = np.zeros((1, 2**20), np.float16), np.zeros((1, 2**20), np.uint8)
    limits = Limits(2**30, 10)
    compute([Batch(logits[:, :10], targets[:, :10])], {"mode": "sigmoid"}, limits=limits)
    tracemalloc.start()
    try:
        (result,) = compute([Batch(logits, targets)], {"mode": "sigmoid"}, limits=limits).batches
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result.num_elements, peak < 12 * 2**20) == (2**20, True), peak
