"""What an image stores, for a person who windows it: values after the Modality LUT, and the window of the image.

A file may be anybody's: only one frame of 8 or 16 bits is read, and of many pixels fewer are given.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from cxr_dicom.config import SelectSettings
from cxr_dicom.dicom.files import PARSING_ERRORS, read_whole
from cxr_dicom.dicom.pixels import Array, _decode, _first, _look_up
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from cxr_dicom.records.plane import Orientation

LONGEST = 2048  # pixels of the longer side that are given

_MOST_PIXELS = SelectSettings().max_pixels
_QUANTILES = (0.005, 0.995)  # of the window of an image that has none


class StoredValues(NamedTuple):
    """Values of an image as it hangs: ``slope * word + intercept`` each."""

    words: NDArray[np.uint16]  # (rows, columns)
    slope: float
    intercept: float
    is_inverted: bool  # the lowest value is white
    centre: float
    width: float
    is_own_window: bool  # the image has it; else it spans most of the values
    reduced: float  # pixels of the image on a side of one of these; 1: all are here


def read(path: Path, orientation: Orientation, longest: int = LONGEST) -> StoredValues:
    """Read the values of an image, turned as it hangs.

    Raises
    ------
    ImageError
        If the file cannot be read, is no image of one frame and one sample of 8 or 16 bits, or too large.
    """
    dataset = read_whole(path)
    try:
        rows, columns = _expected_shape(dataset)
        values, slope, intercept = _values(dataset, (rows, columns))
        small, reduced = _smaller(values, longest)
        lowest = int(small.min())
        words = np.ascontiguousarray(orientation.to_standard((small - lowest).astype(np.uint16)))
        intercept += slope * lowest
        own = _window(dataset)
        low, high = sorted(slope * float(end) + intercept for end in np.quantile(words, _QUANTILES))
        centre, width = own or ((low + high) / 2, max(high - low, 1.0))
    except PARSING_ERRORS as error:
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"expected values, got {type(error).__name__}") from error
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    return StoredValues(
        words=words,
        slope=slope,
        intercept=intercept,
        is_inverted=photometric == "MONOCHROME1",
        centre=centre,
        width=width,
        is_own_window=own is not None,
        reduced=reduced,
    )


def _expected_shape(dataset: Dataset) -> tuple[int, int]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    bits, samples = int(dataset.BitsAllocated), int(dataset.get("SamplesPerPixel") or 1)
    if bits not in (8, 16) or samples != 1 or int(dataset.get("NumberOfFrames") or 1) != 1:
        found = f"{bits} bits, {samples} samples"
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"expected one frame of 8 or 16 bits and one sample, found {found}")
    if not 0 < rows * columns <= _MOST_PIXELS:
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"expected at most {_MOST_PIXELS} pixels, found {rows * columns}")
    return rows, columns


def _values(dataset: Dataset, shape: tuple[int, int]) -> tuple[Array, float, float]:
    """Return whole numbers, and the line that leads from them to values after the Modality LUT or rescale."""
    decoded = _decode(dataset, shape)
    stored = decoded.values.astype(np.int32)
    if dataset.get("ModalityLUTSequence"):
        looked_up, _ = _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
        return looked_up[decoded.words], 1.0, 0.0
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise ValueError("expected a rescale that is a number")
    return stored[decoded.words], slope, intercept


def _smaller(values: Array, longest: int) -> tuple[NDArray[np.int32], float]:
    """Give the mean of neighbours where there are more pixels than are given."""
    rows, columns = values.shape
    reduced = max(1.0, max(rows, columns) / longest)
    if reduced == 1:
        return values.astype(np.int32, copy=False), 1.0
    size = max(1, round(columns / reduced)), max(1, round(rows / reduced))
    shrunk = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))
    return np.rint(shrunk).astype(np.int32), reduced


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """Return centre and width of the first window; None without one that shows anything."""
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    centre, width = float(_first(dataset.WindowCenter)), float(_first(dataset.WindowWidth))
    return (centre, width) if math.isfinite(centre) and math.isfinite(width) and width >= 1 else None
