"""Outputs of elements and regions in JSON replies: nested like the targets, null where a number is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.codecs.json import JsonCodec
from service.codecs.json_elements import BLOCK, regions_json
from service.schema.structure import Regions
from tests.codecs import samples
from tests.strategies import at_most

Array = np.ndarray[Any, np.dtype[Any]]


def encoded(per_element: dict[str, Array], **members: Any) -> dict[str, Any]:
    result = samples.result({"loss": np.zeros(2, np.float32)})
    batch = replace(result.batches[0], per_element=per_element, **members)
    reply: dict[str, Any] = json.loads(JsonCodec().encode(replace(result, batches=(batch,))))["batches"][0]
    return reply


def plain(values: Array) -> Any:
    """Nested lists, with None for NaN and for negative integers."""
    if values.ndim:
        return [*map(plain, values)]
    return None if np.isnan(values) or (values.dtype.kind == "i" and values < 0) else values.item()


numbers = st.sampled_from([0.5, -1.25, 1e-12, np.nan, 3.0])
arrays = st.one_of(
    hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=4, min_side=0, max_side=3), elements=st.sampled_from([0.5, -1.25])
    ),
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, min_side=0, max_side=3), elements=numbers),
    hnp.arrays(np.int64, hnp.array_shapes(max_dims=4, min_side=0, max_side=3), elements=st.integers(-1, 12)),
)


@at_most(100, deadline=None)
@given(values=arrays)
def test_nested_like_the_targets(values: Array) -> None:
    assert encoded({"loss": values})["per_element"] == {"loss": plain(values)}
    assert encoded({"loss": values.T})["per_element"] == {"loss": plain(values.T)}


@at_most(100, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3), max_size=5), width=st.integers(0, 3), is_integer=st.booleans(), data=st.data()
)
def test_ragged_are_lists_of_the_examples(
    lengths: list[int], width: int, is_integer: bool, data: st.DataObject
) -> None:
    offsets = np.cumsum([0, *lengths])
    total = sum(lengths)
    shape = (total, width) if width else (total,)
    elements = st.integers(-1, 12) if is_integer else numbers
    values = data.draw(hnp.arrays(np.int64 if is_integer else np.float64, shape, elements=elements))
    expected = [plain(values[start:stop]) for start, stop in pairwise(offsets)]
    assert encoded({"prediction": values}, offsets=offsets)["per_element"] == {"prediction": expected}


def test_no_outputs_of_elements() -> None:
    assert "per_element" not in encoded({})
    assert "regions" not in encoded({})["per_example"]


def some_regions(counts: list[int]) -> Regions:
    """So many regions of each example, of a mask with two axes."""
    total = sum(counts)
    numbers = np.arange(total)
    boxes = np.stack([numbers, numbers + 1], axis=1)
    offsets = np.cumsum([0, *counts])
    return Regions(offsets, numbers, numbers + 2, numbers + 3, numbers + 4, boxes, boxes + 1, numbers / 2, numbers / 4)


@pytest.mark.parametrize("counts", [[], [0], [0, 0], [2, 0, 1, 0], [0, BLOCK, 3 * BLOCK + 1, 0]])
def test_regions_are_lists_of_the_examples(counts: list[int]) -> None:
    regions = some_regions(counts)
    lists = json.loads(regions_json(regions))
    assert [*map(len, lists)] == counts
    for number, region in enumerate(region for example in lists for region in example):
        assert region == {
            "region": number,
            "given": number + 2,
            "suggested": number + 3,
            "num_elements": number + 4,
            "box": [[number, number + 1], [number + 1, number + 2]],
            "loss_sum": number / 2,
            "p_t": number / 4,
        }
    assert encoded({}, regions=regions)["per_example"]["regions"] == lists
