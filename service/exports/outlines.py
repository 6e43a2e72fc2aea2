"""Outlines of the regions of a mask as polygons, exact to the pixel.

The outlines follow the edges of pixels, so a polygon covers its pixels and nothing else. Pixels that touch at a corner
only are apart. A hole is a part of the polygon: a line that is walked there and back connects the hole with the
outline, as labelling tools know no holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Points = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Corner = int  # row * (W + 1) + column, of the grid between the pixels

RIGHT, DOWN, LEFT, UP = range(4)


def outlines(places: np.ndarray[Any, np.dtype[Any]], width: int) -> list[Points]:
    """The outline of each region of 4-connected pixels.

    Args:
        places: (P,) positions of the pixels in a flat mask.
        width: Pixels of a row of the mask.

    Returns:
        (K, 2) int64 for each region, in the order of their first pixels: the corners (x, y) of a polygon, clockwise on
        the screen, in pixels from the upper left corner of the image. The last corner is connected with the first.
    """
    if not len(places):
        return []
    y, x = np.divmod(places, width)
    corner = np.array([x.min(), y.min()])
    left, top = corner
    box = np.zeros((y.max() - top + 1, x.max() - left + 1), bool)
    box[y - top, x - left] = True
    return [polygon + corner for polygon in _outlines(box)]


def _outlines(mask: Mask) -> list[Points]:
    width = mask.shape[1] + 1
    # A polygon is a chain of nodes: `following` of each node, and its corner.
    corners: list[Corner] = []
    following: list[int] = []
    node_at: dict[Corner, int] = {}
    starts: list[int] = []

    def add(ring: Sequence[Corner]) -> range:
        """Add the nodes of a ring; the last one is followed by the first."""
        nodes = range(len(corners), len(corners) + len(ring))
        corners.extend(ring)
        following.extend([*nodes[1:], nodes[0]])
        return nodes

    # In reading order of their first corners: an outline comes before its holes, and a hole after those to its left.
    for ring in sorted(map(_from_first, _rings(mask))):
        if _is_hole(ring, width):
            end = node_at[_left_end(mask, ring[0])]
            # From the end to the hole, around it, back to its first corner and to the end, and on.
            nodes = add([*ring, ring[0], corners[end]])
            following[nodes[-1]], following[end] = following[end], nodes[0]
        else:
            nodes = add(ring)
            starts.append(nodes[0])
        node_at.update(zip(ring, nodes, strict=False))
    return [_turns(_points(start, following, corners, width)) for start in starts]


def _points(start: int, following: Sequence[int], corners: Sequence[Corner], width: int) -> Points:
    """(K, 2): the corners (x, y) of the chain from a node on."""
    chain, node = [corners[start]], following[start]
    while node != start:
        chain.append(corners[node])
        node = following[node]
    y, x = np.divmod(chain, width)
    return np.column_stack([x, y])


def _rings(mask: Mask) -> Iterator[list[Corner]]:
    """All corners of each closed boundary, with its pixels on the right-hand side."""
    edges = _edges(mask)
    number = edges.shape[1]
    ids = np.flatnonzero(edges)
    direction, corner = np.divmod(ids, number)
    end = corner + np.array([1, mask.shape[1] + 1, -1, -mask.shape[1] - 1])[direction]
    # To the right first: where two pixels touch at a corner only, the ring stays with its own.
    right, left = (direction + 1) % 4, (direction + 3) % 4
    turned = np.where(edges[right, end], right, np.where(edges[direction, end], direction, left))
    successors = np.searchsorted(ids, turned * number + end).tolist()
    corner_of, remaining = corner.tolist(), bytearray(b"\1") * len(ids)
    for first in range(len(ids)):
        ring, edge = [], first
        while remaining[edge]:
            remaining[edge] = 0
            ring.append(corner_of[edge])
            edge = successors[edge]
        if ring:
            yield ring


def _from_first(ring: list[Corner]) -> list[Corner]:
    """The ring from its first corner in reading order on."""
    place = ring.index(min(ring))
    return ring[place:] + ring[:place]


def _edges(mask: Mask) -> Mask:
    """(4, corners): for each direction the corners at which an edge of a boundary begins."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges = np.zeros((4, height + 1, width + 1), bool)
    edges[RIGHT, :-1, :-1] = inside & ~padded[:-2, 1:-1]
    edges[DOWN, :-1, 1:] = inside & ~padded[1:-1, 2:]
    edges[LEFT, 1:, 1:] = inside & ~padded[2:, 1:-1]
    edges[UP, 1:, :-1] = inside & ~padded[1:-1, :-2]
    return edges.reshape(4, -1)


def _is_hole(ring: list[Corner], columns: int) -> bool:
    """True for a ring around pixels that are not of the mask: it is walked the other way round."""
    y, x = np.divmod(ring, columns)
    return bool((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0)


def _left_end(mask: Mask, corner: Corner) -> Corner:
    """The first corner of a boundary to the left of the first corner of a hole."""
    columns: int = mask.shape[1] + 1
    row, column = divmod(corner, columns)
    between = mask[row - 1, :column] & mask[row, :column]
    outside = [int(place) for place in np.flatnonzero(~between)]
    return corner - column + (outside[-1] + 1 if outside else 0)


def _turns(points: Points) -> Points:
    """The points at which the direction changes."""
    before = np.sign(points - np.roll(points, 1, 0))
    after = np.sign(np.roll(points, -1, 0) - points)
    turns: Points = points[(before != after).any(1)]
    return turns
