"""Masks read back from the segmentations that ``encode.objects.seg`` wrote.

A mask becomes the content of its bounding box at once; no stack of planes is ever made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from cxr_dicom.records import ObjectKind
from cxr_dicom.records.plane import Region, Shape
from cxr_dicom.results.named import named
from cxr_dicom.results.schema import Row

Masks = dict[str, Region]  # by structure; see `read`

NOT_OURS = (  # of a file of others
    *(InvalidDicomError, EOFError, AttributeError, TypeError, ValueError, LookupError),
    zlib.error,
)
_KEYWORDS = (
    "Rows",
    "Columns",
    "SegmentationType",
    "SegmentSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
)


def read(folder: Path, row: Row) -> Masks:
    """Read the masks of the image of ``row`` in the output ``folder``.

    A structure bears its own name (Tracking ID). Where an earlier model of the row took it, that of
    a later one is added under the name, two underscores and the model, as in ``results.jsonl``.

    Raises
    ------
    OSError
        If a segmentation cannot be opened.
    """
    found = [mask for path in files(folder, row) for mask in of_file(path)]
    ran = [model["name"] for model in row.get("models") or ()]
    return named(sorted(found, key=lambda mask: ran.index(mask[0])))


def files(folder: Path, row: Row) -> list[Path]:
    """Return the segmentations that have the masks of an image, each once: BINARY ones where there are both."""
    objects = [object_row for object_row in row.get("objects") or () if object_row["kind"] == ObjectKind.SEGMENTATION]
    binary = [object_row for object_row in objects if object_row["sop_class_uid"] == SegmentationStorage]
    return [inside(folder, object_row["path"]) for object_row in binary or objects]


def inside(folder: Path, path: str) -> Path:
    """Return the location of ``path`` of a row.

    Raises
    ------
    ValueError
        If it leads out of ``folder``.
    """
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ValueError("expected a path within the output folder")
    return place


def of_file(path: Path) -> list[tuple[str, str, Region]]:
    """Return model, structure and pixels of each segment of a file that is not empty."""
    dataset = dcmread(path, specific_tags=list(_KEYWORDS))
    segments = {int(segment.SegmentNumber): segment for segment in dataset.SegmentSequence}
    regions = _label_map(dataset) if dataset.SegmentationType == "LABELMAP" else _binary(dataset)
    return [
        (str(segments[number].SegmentAlgorithmName), str(segments[number].TrackingID), region)
        for number, region in regions
        if region.area
    ]


def _binary(dataset: Dataset) -> Iterator[tuple[int, Region]]:
    """Unpack frames that lie end to end, one bit per pixel (PS3.5 8.1.1)."""
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    shape = (int(dataset.Rows), int(dataset.Columns))
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        yield number, _unpack(packed, frame * shape[0] * shape[1], shape)


def _unpack(packed: NDArray[np.uint8], first_bit: int, shape: Shape) -> Region:
    """Unpack only the rows between the first and the last byte of a frame that is not zero."""
    rows, columns = shape
    start = first_bit // 8
    filled = np.flatnonzero(packed[start : (first_bit + rows * columns + 7) // 8] != 0)
    if not filled.size:
        return Region.from_matrix(np.zeros(shape, bool))
    lead = first_bit % 8
    top = max(0, int(filled[0]) * 8 - lead) // columns
    bottom = min(rows, (int(filled[-1]) * 8 + 7 - lead) // columns + 1)
    begin, end = first_bit + top * columns, first_bit + bottom * columns
    bits = np.unpackbits(packed[begin // 8 : (end + 7) // 8], bitorder="little")
    matrix = bits[begin % 8 :][: end - begin].reshape(bottom - top, columns)
    return Region.from_matrix(matrix.astype(bool), (top, 0), shape)


def _label_map(dataset: Dataset) -> Iterator[tuple[int, Region]]:
    from scipy.ndimage import find_objects

    shape = (int(dataset.Rows), int(dataset.Columns))
    labels = np.frombuffer(dataset.PixelData, np.uint8)[: shape[0] * shape[1]].reshape(shape)
    for number, slices in enumerate(find_objects(labels), start=1):
        if slices:
            yield number, Region.from_matrix(labels[slices] == number, (slices[0].start, slices[1].start), shape)
