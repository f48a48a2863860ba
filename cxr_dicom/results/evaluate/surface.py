"""The distance between the borders of two masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure

from cxr_dicom.records.plane import Region


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances between two borders, both ways."""

    mean: float  # mm: average symmetric surface distance
    p95: float  # mm: the larger of both 95th percentiles (robust Hausdorff distance)
    largest: float  # mm: Hausdorff distance


def surface_distances(a: Region, b: Region, spacing: tuple[float, float]) -> Distances | None:
    """Return the distances of two masks of one matrix; None where one is empty.

    The border is those pixels of a mask of which one of four neighbours is outside of it.

    Parameters
    ----------
    spacing
        mm between rows and between columns.
    """
    if not (a.area and b.area):
        return None
    borders = [_border(mask) for mask in _cropped(a, b)]
    far = [distance_transform_edt(~border, sampling=spacing) for border in borders]
    there, back = far[1][borders[0]], far[0][borders[1]]
    return Distances(
        mean=float((there.sum() + back.sum()) / (there.size + back.size)),
        p95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        largest=float(max(there.max(), back.max())),
    )


def _cropped(a: Region, b: Region) -> NDArray[np.bool_]:
    """Both masks in the smallest box that holds them, with a free pixel around it."""
    top, left = min(a.box.top, b.box.top) - 1, min(a.box.left, b.box.left) - 1
    bottom, right = max(a.box.bottom, b.box.bottom) + 1, max(a.box.right, b.box.right) + 1
    both = np.zeros((2, bottom - top, right - left), bool)
    for matrix, region in zip(both, (a, b), strict=True):
        row, column = region.box.top - top, region.box.left - left
        matrix[row : row + region.box.shape[0], column : column + region.box.shape[1]] = region.pixels
    return both


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded: NDArray[np.bool_] = binary_erosion(mask, generate_binary_structure(2, 1))
    return mask & ~eroded
