"""PNG files: equal pictures give equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_dicom import pictures
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.records import ImageAnalysis
from cxr_dicom.system import atomic

FAST = 1  # zlib: the noise of a radiograph does not compress; level 6 takes 2.5 times as long for 13 % of the size
SMALL = 6  # zlib's own default, for what compresses well


def write_radiograph(path: Path, analysis: ImageAnalysis, settings: PixelSettings) -> Path:
    """Write the radiograph at its full size, as stored, with 8 bits, in the greys of the report.

    The source is decoded once more: an analysis keeps no more than the preview.

    Raises
    ------
    ImageError
        If the source can no longer be read.
    """
    image = analysis.image
    pixels = image.orientation.to_source(read(image, settings).pixels)
    return write_png(path, pictures.preview(pixels, long_side=max(image.shape)), FAST)


def write_png(path: Path, picture: NDArray[np.uint8] | NDArray[np.bool_], level: int = SMALL) -> Path:
    """Write a picture: (rows, columns) of bytes or bits, or (rows, columns, 3)."""
    with atomic.open_bytes(path) as file:
        Image.fromarray(picture).save(file, "PNG", compress_level=level)
    return path
