"""``nifti``: label maps for Slicer, ITK-SNAP and nnU-Net.

::

    <SOP Instance UID>_<model>_<n>.nii.gz   label map, 0 is nothing
    <SOP Instance UID>_<model>_<n>.json     what each label is
    <SOP Instance UID>_<model>_<n>.ctbl     names and colours for Slicer

Structures may overlap, labels cannot: each further set of disjoint structures has its own map, numbered
from 1. The maps are just those of label map segmentations (``encode.segmentation = "labelmap"``), with
the same numbers and, with ``encode.geometry = "viewer"``, in the same place.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import Settings
from cxr_dicom.encode.segments import disjoint
from cxr_dicom.export.base import Exporter, about, analyses, expect_installed, found, json_text, structure
from cxr_dicom.records import ChestImage, ImageAnalysis, Mask, Prediction, StudyResult
from cxr_dicom.system import atomic

_SCANNER = 1  # NIfTI's word for the coordinates of the source


def build(settings: Settings, names: Collection[str]) -> Exporter:
    """Make the exporter; ``names`` are all formats of the run.

    Raises
    ------
    SettingsError
        If nibabel is not installed.
    """
    del settings, names  # the labels are as predicted
    expect_installed("nibabel", "nifti")
    return NiftiExporter()


class NiftiExporter:
    """Label maps, one or more per radiograph and model."""

    name = "nifti"

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the label maps of a study."""
        return [
            path
            for analysis in analyses(result)
            for prediction in analysis.predictions
            for number, masks in enumerate(disjoint(found(prediction)), start=1)
            for path in _write(analysis, prediction, masks, number, folder)
        ]

    def collect(self, folder: Path) -> None:
        """Leave the folder as it is."""


def _write(
    analysis: ImageAnalysis, prediction: Prediction, masks: Sequence[Mask], number: int, folder: Path
) -> Iterator[Path]:
    stem = f"{analysis.image.instance.sop_instance_uid}_{prediction.model.name}_{number}"
    labels = {str(label): structure(mask) for label, mask in enumerate(masks, start=1)}
    sidecar = {**about(analysis), "model": prediction.model.name, "labels": labels}
    contents = {
        "nii.gz": _compressed(_volume(analysis.image, masks)),
        "json": (json_text(sidecar) + "\n").encode(),
        "ctbl": _colour_table(masks).encode(),
    }
    for ending, content in contents.items():
        path = folder / f"{stem}.{ending}"
        with atomic.open_bytes(path) as file:
            file.write(content)
        yield path


def _volume(image: ChestImage, masks: Sequence[Mask]) -> bytes:
    """Return an uncompressed NIfTI-1 file of one slice, its axes (column, row, slice)."""
    from nibabel.nifti1 import Nifti1Image

    labels = np.zeros(image.shape, np.uint8)
    for label, mask in enumerate(masks, start=1):
        labels[mask.region.box.slices][mask.region.pixels] = label
    volume = Nifti1Image(labels.T[:, :, np.newaxis], _affine(image))
    volume.set_sform(_affine(image), code=_SCANNER)
    volume.set_qform(_affine(image), code=_SCANNER)
    volume.header.set_xyzt_units("mm" if image.spacing.is_physical else "unknown")
    return volume.to_bytes()


def _affine(image: ChestImage) -> NDArray[np.float64]:
    """Where a voxel lies: the first at the origin, columns to the patient's left, rows to his back.

    A radiograph has no such place. It is the plane in which viewers lay one out
    (:mod:`cxr_dicom.encode.geometry`); DICOM counts to left and back, NIfTI to right and front.
    """
    return np.diag([-image.spacing.columns_mm, -image.spacing.rows_mm, 1.0, 1.0])


def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=0)


def _colour_table(masks: Sequence[Mask]) -> str:
    """Return a colour table as Slicer reads it: label, name, red, green, blue, opacity."""
    rows = [(0, "background", 0, 0, 0, 0)]
    rows += [(label, mask.structure.name, *mask.structure.colour, 255) for label, mask in enumerate(masks, start=1)]
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)
