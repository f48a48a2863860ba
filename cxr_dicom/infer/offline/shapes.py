"""What the offline models do to masks and maps, in NumPy, with the same results as `scipy.ndimage`, to the last bit.

Importing SciPy for this would take as long as these functions take for eight images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
_TRUNCATE = 4.0  # standard deviations


def eroded(mask: Bools, times: int = 1) -> Bools:
    """Take away each pixel beside one that is not in the mask; outside of the matrix nothing is."""
    for _ in range(times):
        framed = np.pad(mask, 1)
        mask = mask & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return mask


def dilated(mask: Bools, times: int = 1) -> Bools:
    """Add each pixel beside one that is in the mask."""
    for _ in range(times):
        framed = np.pad(mask, 1)
        mask = mask | framed[:-2, 1:-1] | framed[2:, 1:-1] | framed[1:-1, :-2] | framed[1:-1, 2:]
    return mask


def filled(mask: Bools) -> Bools:
    """Fill what is enclosed by pixels that touch by an edge or a corner."""
    outside, _ = labelled(np.pad(~mask, 1, constant_values=True))
    inside: Bools = outside[1:-1, 1:-1] != 1
    return inside


def labelled(mask: Bools) -> tuple[NDArray[np.int32], int]:
    """Number the parts of a mask whose pixels touch by an edge.

    Returns
    -------
    tuple
        (rows, columns), 0 outside of the mask, else 1, 2, ... in the order of the first pixels; and how many there are.
    """
    width = mask.shape[1] + 1
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).view(np.int8), axis=1).ravel()
    starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)  # of the pixels in a row, end exclusive
    first = np.searchsorted(ends, starts - width, side="right")  # of those in the row above that touch
    end = np.searchsorted(starts, ends - width, side="left")
    roots, numbers = np.unique(_joined(first.tolist(), end.tolist()), return_inverse=True)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers + 1, ends - starts)
    return labels, len(roots)


def _joined(first: Sequence[int], end: Sequence[int]) -> NDArray[np.intp]:
    """Name for each item the first one that it is connected with, by items ``first`` to ``end`` before it."""
    parents = list(range(len(first)))

    def root(item: int) -> int:
        while parents[item] != item:
            parents[item] = item = parents[parents[item]]
        return item

    for item, touched in enumerate(map(range, first, end)):
        for other in touched:
            one, two = sorted((root(item), root(other)))
            parents[two] = one
    return np.array([root(item) for item in parents], np.intp)


def smoothed(values: NDArray[np.float32], deviation: float, wanted: tuple[slice, slice]) -> NDArray[np.float32]:
    """Smooth by a Gaussian; behind the border the values are mirrored.

    Parameters
    ----------
    deviation
        Standard deviation in pixels.
    wanted
        Rows and columns to compute.

    Returns
    -------
    ndarray
        The ``wanted`` part.
    """
    rows, columns = wanted
    radius = int(_TRUNCATE * deviation + 0.5)
    weights = np.exp(-0.5 / (deviation * deviation) * np.arange(-radius, radius + 1) ** 2)
    weights = (weights / weights.sum())[radius:]
    margin = slice(max(0, columns.start - radius), columns.stop + radius)
    down = _weighed(values[:, margin], weights, rows)
    return _weighed(down.T, weights, slice(columns.start - margin.start, columns.stop - margin.start)).T


def _weighed(values: NDArray[np.float32], weights: NDArray[np.float64], wanted: slice) -> NDArray[np.float32]:
    """Weigh the neighbours of each row, the farthest first, by the distance from it."""
    radius, size = len(weights) - 1, wanted.stop - wanted.start
    framed = np.pad(values, ((radius, radius), (0, 0)), mode="symmetric")[wanted.start : wanted.stop + 2 * radius]
    framed = framed.astype(np.float64)
    found = framed[radius : radius + size] * weights[0]
    for distance in range(radius, 0, -1):
        both = framed[radius - distance :][:size] + framed[radius + distance :][:size]
        both *= weights[distance]
        found += both
    weighed: NDArray[np.float32] = found.astype(np.float32)
    return weighed
