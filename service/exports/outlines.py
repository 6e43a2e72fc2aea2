"""Outlines of the regions of a mask as polygons, exact to the pixel.

The outlines follow the edges of pixels, so a polygon covers its pixels and nothing else. Pixels that touch at a corner
only are apart. A hole is a part of the polygon: a line that is walked there and back connects the hole with the
outline, as labelling tools know no holes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Points = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Corner = int  # row * (W + 1) + column, of the grid between the pixels

RIGHT, DOWN, LEFT, UP = range(4)


def outlines(mask: Mask) -> list[Points]:
    """The outline of each region of 4-connected pixels.

    Args:
        mask: (H, W) bool.

    Returns:
        (K, 2) int64 for each region, in the order of their first pixels: the corners (x, y) of a polygon, clockwise on
        the screen, in pixels from the upper left corner of the image. The last corner is connected with the first.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    corner = np.array([columns[0], rows[0]])
    return [polygon + corner for polygon in _outlines(box)]


def _outlines(mask: Mask) -> list[Points]:
    columns = mask.shape[1] + 1
    polygons: list[list[Corner]] = []
    polygon_at: dict[Corner, int] = {}
    # In reading order of their first corners: an outline comes before its holes, and a hole after those to its left.
    for ring in sorted(map(_from_first, _rings(mask))):
        if _is_hole(ring, columns):
            end = _left_end(mask, ring[0])
            number = polygon_at[end]
            place = polygons[number].index(end) + 1
            polygons[number][place:place] = [*ring, ring[0], end]
        else:
            number = len(polygons)
            polygons.append(ring)
        polygon_at.update(dict.fromkeys(ring, number))
    return [_turns(np.column_stack(np.divmod(polygon, columns)[::-1])) for polygon in polygons]


def _rings(mask: Mask) -> list[list[Corner]]:
    """All corners of each closed boundary, with its pixels on the right-hand side."""
    edges = _edges(mask)
    steps = {RIGHT: 1, DOWN: mask.shape[1] + 1, LEFT: -1, UP: -mask.shape[1] - 1}
    starts = np.flatnonzero(edges[RIGHT]).tolist()
    open_edges = [row.tobytes() for row in edges]
    remaining = [bytearray(row) for row in open_edges]
    rings = []
    for start in starts:
        corner, direction, ring = start, RIGHT, []
        while remaining[direction][corner]:
            remaining[direction][corner] = 0
            ring.append(corner)
            corner += steps[direction]
            # To the right first: where two pixels touch at a corner only, the ring stays with its own.
            direction = next(
                turned for turned in ((direction + turn) % 4 for turn in (1, 0, 3)) if open_edges[turned][corner]
            )
        if ring:
            rings.append(ring)
    return rings


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
