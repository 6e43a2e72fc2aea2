"""The run-length encoding equals that of Label Studio's SDK, byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.exports.brush import brush_rle

sdk = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")


def assert_same(mask: Any) -> None:
    encoded = brush_rle(np.flatnonzero(mask), mask.size)
    assert encoded == sdk.mask2rle(np.where(mask, 255, 0).astype(np.uint8))
    image = sdk.decode_rle(encoded).reshape(*mask.shape, 4)
    assert (image == np.where(mask, 255, 0)[:, :, None]).all()


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)), st.data())
def test_small_masks(mask: Any, data: st.DataObject) -> None:
    mask.flat[data.draw(st.integers(0, mask.size - 1))] = True
    assert_same(mask)


@given(st.lists(st.sampled_from([1, 2, 3, 4, 5, 63, 64, 65, 500]), min_size=1, max_size=12), st.booleans())
def test_runs_around_each_width(lengths: list[int], painted: bool) -> None:
    values = np.resize([painted, not painted], len(lengths))
    assert_same(np.append(np.repeat(values, lengths), True)[None])


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, 32_768, 40_000])
def test_a_run_longer_than_the_largest_length_is_split(length: int) -> None:
    assert_same(np.arange(length + 3)[None] < length)
