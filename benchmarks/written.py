"""Bytes that ``run`` writes for an image with the default objects, tables and report, against the image itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset

from benchmarks._harness import Plan, Row, folder, ratios
from benchmarks._ways import real
from cxr_dicom import synthetic

MODELS = ("offline-anatomy", "lung-opacity")


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each image; bytes are the same each time, so none is measured twice."""
    for name, image in (("CR 1955 × 1841", real()), ("the same, 8 bits", of_8_bits(real()))):
        with folder() as place:
            synthetic.write_study(place / "in", [synthetic.radiograph(256, 256) if plan.is_quick else image])
            size = _size(place / "in")
            plan.apart(run, str(place))
            figures = [(float(_size(place / "out")), float(size))]
        yield ratios(f"written: bytes for an image, against the image, {name}", figures, at_most=0.5)


def run(place: str) -> None:
    """Be the process of the run."""
    from cxr_dicom.cohort import run as cohort
    from cxr_dicom.cohort.engines.here import Here
    from cxr_dicom.config import Settings
    from cxr_dicom.ingest import manifest

    settings = Settings.model_validate({"models": {"names": MODELS}})
    cohort.run(manifest.read(str(Path(place) / "in")), Path(place) / "out", settings, Here())


def of_8_bits(image: Dataset) -> Dataset:
    """Scale the pixels of an image to one byte each."""
    pixels = image.pixel_array
    scaled = pixels.astype(np.float64) * (255 / max(1, int(pixels.max())))
    image.PixelData = scaled.astype(np.uint8).tobytes() + b"\0" * (pixels.size % 2)
    image["PixelData"].VR = "OB"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    for keyword in ("WindowCenter", "WindowWidth"):
        image.pop(keyword, None)
    return image


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
