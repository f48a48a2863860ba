"""Outlines of regions as closed polygons, for reports and presentation states.

A polygon runs along the edges of pixels, as SCOORD (PS3.3 C.18.6.1.2) and the PIXEL units of a
presentation state (PS3.3 C.10.5.1.2) count them, and is then thinned: no point that is left out
lies farther than one pixel from the line that stays, and the area inside changes by no more than 0.5 %,
unless it still has more points than an attribute holds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records.plane import Point, Region

TOLERANCE = 1.0  # pixel
MAX_POINTS = 8000  # of a polygon: a value of single floats has 16 bits for its length (PS3.5 7.1.2)
_CHANGE = 0.005  # of the area, at most
_MIN_TOLERANCE = 0.5  # pixels: leaves out only what lies on a straight line

_Points = NDArray[np.float64]  # (n, 2): column, row
_Edges = dict[tuple[int, int], list[tuple[int, int]]]


def outlines(region: Region, tolerance: float = TOLERANCE) -> list[tuple[Point, ...]]:
    """Return the closed polygons around a region and its holes, that of the greatest extent first.

    Parameters
    ----------
    tolerance
        How far a polygon may leave the edges of the pixels, in pixels.

    Returns
    -------
    list
        Each polygon begins and ends at the same point (column, row) of the source matrix.
    """
    origin = np.array([region.box.left, region.box.top], np.float64)
    rings = sorted(_rings(region.pixels), key=lambda ring: -abs(enclosed_area(ring)))
    return [tuple((float(column), float(row)) for column, row in _faithful(ring, tolerance) + origin) for ring in rings]


def enclosed_area(ring: _Points | tuple[Point, ...]) -> float:
    """Return the area of a closed polygon in square pixels; that of a hole is negative (shoelace formula)."""
    column, row = np.asarray(ring, np.float64).T
    return float(np.sum(column[:-1] * row[1:] - column[1:] * row[:-1]) / 2)


def _rings(pixels: NDArray[np.bool_]) -> Iterator[_Points]:
    """Yield the closed walks along the edges of a mask; the mask lies on the right hand."""
    following = _edges(pixels)
    while following:
        start = point = next(iter(following))
        before, walk = (0, 0), [start]
        while True:
            choices = following[point]
            step = choices.pop(_right_most(before, point, choices) if len(choices) > 1 else 0)
            if not choices:
                del following[point]
            before, point = (step[0] - point[0], step[1] - point[1]), step
            walk.append(point)
            if point == start:
                break
        yield np.array(walk, np.float64)


def _edges(pixels: NDArray[np.bool_]) -> _Edges:
    """The edges between inside and outside, by the corner where they start."""
    padded = np.pad(pixels, 1).astype(np.int8)
    following: _Edges = {}
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    for (rows, columns), shift, start in (
        (np.nonzero(across == 1), (1, 0), (0, 0)),  # inside below: to the right
        (np.nonzero(across == -1), (-1, 0), (1, 0)),  # inside above: to the left
        (np.nonzero(down == 1), (0, -1), (0, 1)),  # inside on the right: up
        (np.nonzero(down == -1), (0, 1), (0, 0)),  # inside on the left: down
    ):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            corner = column + start[0], row + start[1]
            following.setdefault(corner, []).append((corner[0] + shift[0], corner[1] + shift[1]))
    return following


def _right_most(before: tuple[int, int], point: tuple[int, int], choices: list[tuple[int, int]]) -> int:
    """Where two pixels touch at a corner only: turn right, so that each keeps its own outline."""
    right = point[0] - before[1], point[1] + before[0]
    return choices.index(right) if right in choices else 0


def _faithful(ring: _Points, tolerance: float) -> _Points:
    """Thin a ring as much as its area allows."""
    thin = _thinned(ring, tolerance)
    while tolerance > _MIN_TOLERANCE and abs(enclosed_area(thin) - enclosed_area(ring)) > _CHANGE * abs(
        enclosed_area(ring)
    ):
        tolerance = max(tolerance / 2, _MIN_TOLERANCE)
        thin = _thinned(ring, tolerance)
    while len(thin) > MAX_POINTS:
        tolerance *= 2
        thin = _thinned(ring, tolerance)
    return thin


def _thinned(ring: _Points, tolerance: float) -> _Points:
    """Leave out the points of a closed ring that its outline does not need (Douglas and Peucker 1973)."""
    if len(ring) < 6:  # no more than a single pixel
        return ring
    farthest = int(np.argmax(np.sum((ring - ring[0]) ** 2, axis=1)))
    keep = np.zeros(len(ring), bool)
    keep[[0, farthest, -1]] = True
    parts = [(0, farthest), (farthest, len(ring) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:  # nothing between
            continue
        (x0, y0), (x1, y1) = ring[first], ring[last]
        between = ring[first + 1 : last]
        distance = abs((x1 - x0) * (between[:, 1] - y0) - (y1 - y0) * (between[:, 0] - x0)) / np.hypot(x1 - x0, y1 - y0)
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            parts += [(first, middle), (middle, last)]
    return ring[keep]
