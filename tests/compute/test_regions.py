"""Regions of structured examples: their elements, extents, sums and order."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compute import regions as regions_module
from service.compute.evaluation import Limits
from service.errors import TooManyRegionsError
from service.schema.request import ELEMENT_OUTPUTS, OUTPUTS, Batch
from service.schema.structure import Regions
from tests.compute.sample_requests import compute, refused
from tests.compute.structured import Structured, structured_batches


def regions_of(case: Structured, **options: Any) -> tuple[Regions, dict[str, np.ndarray[Any, Any]]]:
    """The regions of a batch, and outputs of its elements."""
    elements = ["loss", "p_t", "prediction"]
    result = compute([case.batch], case.config, layout=case.layout, elements=elements, outputs=["regions"], **options)
    (batch,) = result.batches
    assert batch.regions is not None
    return batch.regions, batch.per_element


def connected(differs: np.ndarray[Any, Any], *, apart: bool) -> list[list[tuple[int, ...]]]:
    """Connected elements of an example, in the order of their first ones, by a search from each.

    Args:
        differs: Bool, of the shape of the example's targets.
        apart: The last axis is one of labels, which connects nothing.
    """
    left, found = {tuple(map(int, index)) for index in np.argwhere(differs)}, []
    for first in sorted(left):
        if first not in left:
            continue
        region, waiting = [], [first]
        while waiting:
            index = waiting.pop()
            if index not in left:
                continue
            left.remove(index)
            region.append(index)
            for axis in range(len(index) - apart):
                for step in (-1, 1):
                    waiting.append((*index[:axis], index[axis] + step, *index[axis + 1 :]))
        found.append(sorted(region))
    return found


class TestDefinition:
    @given(case=structured_batches())
    def test_regions_are_connected_elements_with_a_wrong_prediction(self, case: Structured) -> None:
        regions, outputs = regions_of(case, top_regions=1000)
        sigmoid, offsets = case.config["mode"] == "sigmoid", case.batch.offsets
        targets = case.batch.targets
        for number in range(len(case.examples)):
            rows = slice(number, number + 1) if offsets is None else slice(*offsets[number : number + 2])
            given_class, prediction = targets[rows], outputs["prediction"][rows]
            differs = (prediction != given_class) & (prediction >= 0)
            values = outputs["loss"][rows], outputs["p_t"][rows], given_class, prediction
            if offsets is None:
                differs, values = differs[0], tuple(array[0] for array in values)
            differs = np.atleast_1d(differs)
            values = tuple(map(np.atleast_1d, values))
            if case.layout == "rows":
                expected = [[tuple(map(int, index))] for index in np.argwhere(differs)]
            elif sigmoid and case.layout == "dense":
                # Labels are the first axis of an example's targets here.
                moved = connected(np.moveaxis(differs, 0, -1), apart=True)
                expected = sorted(sorted((index[-1], *index[:-1]) for index in region) for region in moved)
            else:
                expected = connected(differs, apart=sigmoid)
            mine = slice(*regions.offsets[number : number + 2])
            order = np.argsort(regions.number[mine])
            assert regions.number[mine][order].tolist() == list(range(len(expected)))
            for place, region in zip(order + mine.start, expected, strict=True):
                self._check(regions, int(place), region, values)
            losses = regions.loss_sum[mine]
            assert losses.tolist() == sorted(losses, reverse=True)

    def _check(self, regions: Regions, place: int, region: list[tuple[int, ...]], values: Any) -> None:
        index = tuple(np.array(region).T)
        loss, p_t, given_class, prediction = (array[index] for array in values)
        assert regions.num_elements[place] == len(region)
        assert regions.loss_sum[place] == pytest.approx(loss.sum(), rel=1e-9)
        assert regions.p_t[place] == pytest.approx(p_t.mean(), rel=1e-9)
        assert regions.start[place].tolist() == np.min(region, axis=0).tolist()
        assert regions.stop[place].tolist() == (np.max(region, axis=0) + 1).tolist()
        pairs: dict[tuple[int, int], float] = {}
        for pair, value in zip(zip(given_class.tolist(), prediction.tolist(), strict=True), loss, strict=True):
            pairs[pair] = pairs.get(pair, 0) + value
        main = (int(regions.given[place]), int(regions.suggested[place]))
        assert pairs[main] == pytest.approx(max(pairs.values()), rel=1e-9)

    @given(case=structured_batches(), most=st.integers(0, 3))
    def test_the_first_regions_are_those_of_the_largest_losses(self, case: Structured, most: int) -> None:
        every, _ = regions_of(case, top_regions=1000)
        some, _ = regions_of(case, top_regions=most)
        kept = np.concatenate(
            [np.arange(start, min(stop, start + most)) for start, stop in pairwise(every.offsets)]
            or [np.empty(0, np.int64)]
        ).astype(np.int64)
        for name, column in vars(some).items():
            if name != "offsets":
                np.testing.assert_array_equal(column, vars(every)[name][kept], err_msg=name)


class TestMasks:
    LOGITS = np.zeros((1, 3, 4, 5))
    TARGETS = np.zeros((1, 4, 5), np.int64)

    def test_two_regions_of_a_mask(self) -> None:
        """Diagonal neighbours are not connected, ignored pixels connect nothing."""
        logits, targets = self.LOGITS.copy(), self.TARGETS.copy()
        logits[0, 2, :2, :2], logits[0, 1, 2, 2] = 1, 9
        targets[0, 0, 1] = targets[0, 1, 0] = -100
        batch = Batch(logits, targets)
        (result,) = compute([batch], layout="dense", top_regions=5).batches
        regions = result.regions
        assert regions is not None
        assert regions.offsets.tolist() == [0, 3]
        # By loss: the pixel (2, 2) first, then (0, 0) and (1, 1) in the order of their numbers.
        assert regions.number.tolist() == [2, 0, 1]
        assert regions.start.tolist() == [[2, 2], [0, 0], [1, 1]]
        assert regions.stop.tolist() == [[3, 3], [1, 1], [2, 2]]
        assert regions.suggested.tolist() == [1, 2, 2]
        assert result.per_example.keys() == {"loss", "contribution"}

    def test_an_excluded_example_has_no_regions(self) -> None:
        logits = np.concatenate([self.LOGITS, self.LOGITS])
        logits[:, 1] = 2
        logits[0, 0, 3, 3] = np.nan
        batch = Batch(logits, np.concatenate([self.TARGETS, self.TARGETS]))
        (result,) = compute([batch], layout="dense", top_regions=5, on_invalid="exclude").batches
        assert result.regions is not None
        assert result.regions.offsets.tolist() == [0, 0, 1]
        assert result.regions.num_elements.tolist() == [20]

    def test_without_the_option_there_are_none(self) -> None:
        assert compute([Batch(self.LOGITS, self.TARGETS)], layout="dense").batches[0].regions is None
        assert "regions" not in compute([Batch(self.LOGITS, self.TARGETS)], layout="dense").batches[0].per_example

    def test_the_bound_of_a_reply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(regions_module, "MAX_REPLY_REGIONS", 3)
        logits, targets = np.tile([0.0, 1.0], (3, 1)), np.zeros(3, np.int64)
        assert compute([Batch(logits, targets)], outputs=["regions"]).batches[0].regions is not None
        for batches in ([Batch(logits, targets)] * 2, [Batch(np.tile(logits, (2, 1)), np.tile(targets, 2))]):
            assert isinstance(refused(batches, outputs=["regions"]), TooManyRegionsError)

    def test_too_many_are_noticed_before_outputs_take_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(regions_module, "MAX_REPLY_REGIONS", 1000)
        masks = 200_000
        logits, targets = np.tile(np.array([0, 1], np.float16), (masks, 1))[..., np.newaxis], np.zeros((masks, 1), int)
        everything = {"outputs": [name for name in OUTPUTS if name != "prediction"], "elements": list(ELEMENT_OUTPUTS)}
        limits = Limits(2**30, masks)
        tracemalloc.start()
        try:
            error = refused([Batch(logits, targets)], layout="dense", top_regions=1, limits=limits, **everything)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert isinstance(error, TooManyRegionsError)
        # The outputs would take 170 bytes a mask.
        assert peak < 100 * masks

    @pytest.mark.parametrize("is_wrong", [np.arange(2**19) % 2 == 1, np.ones(2**19, bool)])
    def test_regions_of_a_large_mask_take_little_memory(self, is_wrong: np.ndarray[Any, Any]) -> None:
        logits = np.zeros((1, 2, is_wrong.size), np.float16)
        logits[:, 0] = 1
        batch = Batch(logits, is_wrong[np.newaxis].astype(np.uint8))
        limits = Limits(2**30, 1)
        tracemalloc.start()
        try:
            (result,) = compute([batch], layout="dense", top_regions=3, limits=limits).batches
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert result.regions is not None
        assert result.regions.num_elements.tolist() == ([2**19] if is_wrong.all() else [1, 1, 1])
        # Each element has 5 bytes in the request.
        assert peak < 60 * is_wrong.size
