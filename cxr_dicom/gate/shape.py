"""The shape and place of two lungs and a heart in a few numbers that no size of a picture changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import log

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records.plane import Region

MODELS = ("offline-anatomy",)  # whose outlines the shapes were measured on
SHAPES_FILE = "shapes.json"
_ROWS = 256  # of a picture are looked at: more tell no more


def numbers(right: Region, left: Region, heart: Region | None) -> dict[str, float] | None:
    """Return the numbers of the outlines, by name; None when the lungs share no row.

    Parameters
    ----------
    right, left, heart
        In the standard view: the patient's right lung lies on the left of the picture. None is empty.
    """
    step = max(1, max(right.shape) // _ROWS)
    rows = range(0, right.shape[0], step)
    of_right, of_left = _borders(right, rows), _borders(left, rows)
    shared = (of_right[0] >= 0) & (of_left[0] >= 0)
    if not shared.any():
        return None
    width = max(right.box.right, left.box.right) - min(right.box.left, left.box.left)
    top, bottom = min(right.box.top, left.box.top), max(right.box.bottom, left.box.bottom)
    heights = [lung.box.bottom - lung.box.top for lung in (right, left)]
    widths = [lung.box.right - lung.box.left for lung in (right, left)]
    upper, lower = (_width(of_right, third) + _width(of_left, third) for third in (0, 2))
    found = {
        "gap": float(np.median(of_left[0][shared] - of_right[1][shared])) / width,
        "overlap": min(1.0, np.count_nonzero(shared) * step / min(heights)),
        "height_ratio": log(heights[0] / heights[1]),
        "area_ratio": log(right.area / left.area),
        "thorax_aspect": log(width / max(heights)),
        "right_aspect": log(widths[0] / heights[0]),
        "left_aspect": log(widths[1] / heights[1]),
        "right_fill": right.area / (heights[0] * widths[0]),
        "left_fill": left.area / (heights[1] * widths[1]),
        "taper": log((upper + 1) / (lower + 1)),
        "lung_area": log((right.area + left.area) / (right.shape[0] * right.shape[1])),
    }
    if heart:
        across, down = _centre(heart, step)
        between = float(np.median(of_left[0][shared] + of_right[1][shared])) / 2
        found["heart_across"] = (across - between) / width
        found["heart_down"] = (down - top) / (bottom - top)
        found["heart_width"] = (heart.box.right - heart.box.left) / width
        found["heart_area"] = log(heart.area / (right.area + left.area))
    return found


def distance(found: Mapping[str, float]) -> float:
    """Return the squared Mahalanobis distance of the outlines from those of chests; about 15 on average for a chest."""
    names, mean, precision = _shapes()
    off = np.array([found[name] for name in names]) - mean
    return float(off @ precision @ off)


@cache
def _shapes() -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    content = json.loads(files(__package__).joinpath(SHAPES_FILE).read_text(encoding="utf-8"))
    return tuple(content["names"]), np.array(content["mean"]), np.array(content["precision"])


def _borders(region: Region, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column, and the one behind the last, of each of ``rows``; -1 where the region has none."""
    first, last = np.full(len(rows), -1), np.full(len(rows), -1)
    for index, row in enumerate(rows):
        if region.box.top <= row < region.box.bottom:
            columns = np.flatnonzero(region.pixels[row - region.box.top])
            if columns.size:
                first[index], last[index] = region.box.left + columns[0], region.box.left + columns[-1] + 1
    return first, last


def _width(borders: tuple[NDArray[np.int64], NDArray[np.int64]], third: int) -> float:
    """Mean width of a lung in its upper (0), middle (1) or lower (2) third."""
    first, last = (border[borders[0] >= 0] for border in borders)
    part = np.array_split(last - first, 3)[third]
    return float(part.mean()) if part.size else 0.0


def _centre(region: Region, step: int) -> tuple[float, float]:
    rows, columns = np.nonzero(region.pixels[::step, ::step])
    if not rows.size:
        rows, columns = np.nonzero(region.pixels)
        step = 1
    return region.box.left + float(columns.mean()) * step, region.box.top + float(rows.mean()) * step
