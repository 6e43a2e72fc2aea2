"""A polygon covers its pixels and nothing else, holes included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from service.exports.outlines import outlines

SIZES = st.integers(1, 12)
MASKS = st.builds(
    lambda height, width, density, seed: np.random.default_rng(seed).random((height, width)) < density,
    SIZES,
    SIZES,
    st.sampled_from([0.5, 0.7, 0.85]),
    st.integers(0, 2**32),
)
RING = ["111", "101", "111"]


def mask_of(rows: list[str]) -> Any:
    return np.array([[pixel == "1" for pixel in row] for row in rows])


def outlines_of(mask: Any) -> list[Any]:
    return [*outlines(np.flatnonzero(mask), mask.shape[1])]


def area(polygon: Any) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def covered(polygon: Any, shape: tuple[int, int]) -> Any:
    """Pixels with their centre inside, by the number of edges to the left of it: the even-odd rule."""
    after = np.roll(polygon, -1, 0)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    crossings = np.zeros(shape, int)
    for (x, y), (_, end) in zip(polygon, after, strict=True):
        crossings += (min(y, end) < rows) & (rows < max(y, end)) & (x < columns)
    return crossings % 2 == 1


@given(MASKS)
def test_each_polygon_covers_one_region(mask: Any) -> None:
    regions, count = label(mask)
    polygons = outlines_of(mask)
    assert len(polygons) == count
    for number, polygon in enumerate(polygons, 1):
        assert (covered(polygon, mask.shape) == (regions == number)).all()
        assert area(polygon) == (regions == number).sum()


@given(MASKS)
def test_all_edges_are_horizontal_or_vertical_and_none_is_divided(mask: Any) -> None:
    for polygon in outlines_of(mask):
        edges = np.roll(polygon, -1, 0) - polygon
        assert ((edges != 0).sum(1) == 1).all()
        assert (np.sign(edges) != np.sign(np.roll(edges, 1, 0))).any(1).all()


@pytest.mark.parametrize(
    ("rows", "polygons"),
    [
        (["0"], []),
        (["1"], [[[0, 0], [1, 0], [1, 1], [0, 1]]]),
        (["011"], [[[1, 0], [3, 0], [3, 1], [1, 1]]]),
        (["10", "01"], [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [2, 1], [2, 2], [1, 2]]]),
        (
            ["1111", "1001", "1101", "1111"],
            [
                [[0, 0], [4, 0], [4, 4], [0, 4], [0, 1], [1, 1], [1, 2], [2, 2], [2, 3], [3, 3], [3, 1], [0, 1]],
            ],
        ),
        (RING, [[[0, 0], [3, 0], [3, 3], [0, 3], [0, 1], [1, 1], [1, 2], [2, 2], [2, 1], [0, 1]]]),
    ],
)
def test_outlines_of_small_masks(rows: list[str], polygons: list[list[list[int]]]) -> None:
    found = [polygon.tolist() for polygon in outlines_of(mask_of(rows))]
    assert len(found) == len(polygons)
    for points, expected in zip(found, polygons, strict=True):
        assert points in [expected[turn:] + expected[:turn] for turn in range(len(expected))]
