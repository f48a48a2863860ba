"""The real radiograph of `pydicom-data`, made usable in every viewer."""

from pathlib import Path

from pydicom import dcmread

RG1_SPACING_MM = 0.175  # a usual one of storage phosphor plates; RG1 itself says 0\0


def with_pixel_spacing(source: Path, copy: Path, spacing_mm: float) -> Path:
    """Write a copy that states a Pixel Spacing, in a study of its own."""
    dataset = dcmread(source)
    dataset.PixelSpacing = [spacing_mm, spacing_mm]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        dataset[keyword].value += ".1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    copy.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(copy)
    return copy
