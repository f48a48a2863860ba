"""Put contours right that lie off the visible border in the same way on every image.

A border that a network has learnt a little too far out stays there through
self-training, since nothing contradicts it. The images do: averaged over
hundreds of them, ribs and vessels cancel, and the grey values along the normal
of each contour point rise most steeply at the true border.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from .shape import ShapeModel

REACH = 0.045  # how far from the contour a border is looked for, fraction of the image's edge
SAMPLES = 37
# A mean rise below this share of the contour's upper quartile is no border: heart
# against mediastinum or diaphragm, for instance.
PROMINENT = 0.6


def normals(model: ShapeModel, points: np.ndarray) -> np.ndarray:
    """Outward unit normals (P, 2) of the closed contours of `points` (P, 2)."""
    outward = np.zeros_like(points)
    for index in model.organs.values():
        contour = points[index]
        after, before = np.roll(contour, -1, axis=0), np.roll(contour, 1, axis=0)
        along = after - before
        area = np.sum(contour[:, 0] * after[:, 1] - after[:, 0] * contour[:, 1])
        across = np.stack([along[:, 1], -along[:, 0]], axis=1) * np.sign(area)
        outward[index] = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    return outward


def offsets(model: ShapeModel, images: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How far outside its contour point each border lies on average.

    Parameters
    ----------
    model : ShapeModel
    images : iterable of (ndarray, ndarray)
        Square radiograph (rows, rows), bright is dense, and its contour
        points (P, 2), fractions of the image.

    Returns
    -------
    ndarray
        (P,) fractions of the image's edge, positive outwards, within `REACH`.
        Where no border shows on average the value is that of the neighbours.
    """
    distances = np.linspace(-REACH, REACH, SAMPLES)
    rises = []
    for image, points in images:
        size = len(image)
        smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), size / 256)
        at = points[:, None] + normals(model, points)[:, None] * distances[None, :, None]
        rows_columns = (at[..., ::-1] * size - 0.5).transpose(2, 0, 1)
        profile = ndimage.map_coordinates(smooth, rows_columns, order=1, mode="nearest")
        rises.append(np.gradient(profile, axis=1) / max(float(smooth.std()), 1e-6))
    mean = np.mean(rises, axis=0)
    result = np.zeros(len(model.mean))
    for name, index in model.organs.items():
        # Lung is darker than what surrounds it, the heart brighter than lung.
        rise = -mean[index] if name == "heart" else mean[index]
        best = rise.argmax(1)
        height = rise.max(1)
        seen = (height > PROMINENT * np.quantile(height, 0.75)) & (best > 0) & (best < SAMPLES - 1)
        result[index] = _closed(distances[best], seen)
    return result


def _closed(values, seen):
    """Fill and smooth values around a closed contour from those that were seen."""
    if not seen.any():
        return np.zeros_like(values)
    count = len(values)
    where = np.flatnonzero(seen)
    filled = np.interp(np.arange(count), where, values[where], period=count)
    return ndimage.gaussian_filter1d(ndimage.median_filter(filled, 5, mode="wrap"), 1.0, mode="wrap")


def shift(model: ShapeModel, points: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Contour points (P, 2) moved outwards along their normals by (P,) fractions of the image's edge."""
    return points + normals(model, points) * by[:, None]
