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
_Numbers = NDArray[np.intp]
_RIGHT_TURN = np.array([3, 2, 0, 1])  # of the directions right, left, up and down


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
    return [tuple(map(tuple, (_faithful(ring, tolerance) + origin).tolist())) for ring in rings]


def enclosed_area(ring: _Points | tuple[Point, ...]) -> float:
    """Return the area of a closed polygon in square pixels; that of a hole is negative (shoelace formula)."""
    column, row = np.asarray(ring, np.float64).T
    return float(np.sum(column[:-1] * row[1:] - column[1:] * row[:-1]) / 2)


def _rings(pixels: NDArray[np.bool_]) -> Iterator[_Points]:
    """Yield the closed walks along the edges of a mask, their corners only; the mask lies on the right hand."""
    width = pixels.shape[1] + 2
    start, direction = _edges(np.pad(pixels, 1).ravel(), width)
    first, last = _leaving(start, start + np.array([1, -1, -width, width])[direction])
    following = np.where(direction[last] == _RIGHT_TURN[direction], last, first).tolist()
    corners, is_walked = start.tolist(), np.zeros(len(start), bool)
    rightwards = start[direction == 0]  # there are some in each walk
    for begin in np.stack(_leaving(start, rightwards), axis=1).ravel().tolist():
        if is_walked[begin]:
            continue
        walk, edge = [begin], following[begin]
        while corners[edge] != corners[begin]:
            walk.append(edge)
            edge = following[edge]
        is_walked[walk] = True
        turns = np.flatnonzero(np.diff(direction[walk], prepend=-1))
        row, column = np.divmod(start[walk][np.append(turns, 0)], width)
        yield np.stack([column, row], axis=1).astype(np.float64)


def _edges(inside: NDArray[np.bool_], width: int) -> tuple[_Numbers, _Numbers]:
    """The edges between inside and outside: the corner where each starts, and its direction.

    Parameters
    ----------
    inside
        A mask with a margin of one pixel, its rows of ``width`` pixels end to end. The corner at the top left of
        a pixel of the mask has the number of the pixel that touches it there.
    """
    across, along = np.flatnonzero(inside[width:] != inside[:-width]), np.flatnonzero(inside[1:] != inside[:-1])
    is_below, is_right = inside[across + width], inside[along + 1]
    starts = across[is_below] - 1, across[~is_below], along[is_right], along[~is_right] - width
    return np.concatenate(starts), np.repeat(np.arange(4), [len(each) for each in starts])


def _leaving(start: _Numbers, corners: _Numbers) -> tuple[_Numbers, _Numbers]:
    """The first and the last edge that starts at each of ``corners``: two where pixels touch there only, else one."""
    order = np.argsort(start, kind="stable")
    starts = start[order]
    return order[np.searchsorted(starts, corners)], order[np.searchsorted(starts, corners, "right") - 1]


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
    if len(ring) < 6:  # no more than a rectangle
        return ring
    farthest = int(np.argmax(np.sum((ring - ring[0]) ** 2, axis=1)))
    keep = np.zeros(len(ring), bool)
    keep[[0, farthest, -1]] = True
    while True:  # all lines between two points that stay, at once
        stays, line = np.flatnonzero(keep), np.cumsum(keep[:-1]) - 1
        begin, along = ring[stays[:-1]], np.diff(ring[stays], axis=0)
        across, down = (ring[:-1] - begin[line]).T
        off = abs(along[line, 0] * down - along[line, 1] * across)  # distance times length of the line
        most = np.maximum.reduceat(off, stays[:-1])
        is_needed = most > tolerance * np.hypot(*along.T)
        worst = np.flatnonzero((off == most[line]) & is_needed[line])
        if not worst.size:
            return ring[keep]
        keep[worst[np.unique(line[worst], return_index=True)[1]]] = True
