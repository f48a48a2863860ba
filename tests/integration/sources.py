"""The real radiograph of `pydicom-data`, made usable in every viewer."""

from pathlib import Path

from pydicom import dcmread

from cxr_dicom import synthetic

RG1_SPACING_MM = 0.175  # a usual one of storage phosphor plates; RG1 itself says 0\0


def with_pixel_spacing(source: Path, copy: Path, spacing_mm: float) -> Path:
    """Write a copy that states a Pixel Spacing, in a study of its own."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    synthetic.with_pixel_spacing(dcmread(source), spacing_mm).save_as(copy)
    return copy
