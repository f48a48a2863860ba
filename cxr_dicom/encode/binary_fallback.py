"""The BINARY twin of a label map, for archives that do not know that SOP class.

It is made from the label map's own bytes, long after the models are done. Equal bytes give equal
twins, so a crash in between makes no second one.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, SegmentationStorage

from cxr_dicom.dicom.files import read_whole
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.common import write
from cxr_dicom.encode.identity import derived_uid
from cxr_dicom.encode.multiframe import POSITION, set_dimensions
from cxr_dicom.encode.objects.seg import SEGMENT, segment_identification, set_pixels
from cxr_dicom.records import EncodedObject
from cxr_dicom.records.plane import Region


def binary_fallback_of(label_map: Dataset) -> Dataset:
    """Return the BINARY segmentation (PS3.3 A.51) that says what a LABELMAP of ours (A.101) says.

    Segments, tracking UIDs, geometry and references are the same; instance and series are its own.
    """
    twin = deepcopy(label_map)
    twin.SOPClassUID = twin.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    uid = UID(derived_uid("binary twin", label_map.SOPInstanceUID))
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = uid
    twin.SeriesInstanceUID = derived_uid("binary twin", label_map.SeriesInstanceUID)
    del twin.PixelPaddingValue
    set_pixels(twin, "BINARY", _regions(label_map))
    _set_frames(twin)
    return twin


def make_binary_fallback(label_map: EncodedObject, folder: Path) -> EncodedObject:
    """Write the BINARY twin of a label map to ``folder``; equal label maps give equal twins."""
    dataset = binary_fallback_of(read_whole(label_map.path))
    return write(Encoded(label_map.kind, dataset, label_map.source_sop_instance_uids, label_map.model), folder)


def _regions(label_map: Dataset) -> list[Region]:
    rows, columns = int(label_map.Rows), int(label_map.Columns)
    labels = np.frombuffer(label_map.PixelData, np.uint8, count=rows * columns).reshape(rows, columns)
    return [Region.from_matrix(labels == item.SegmentNumber) for item in label_map.SegmentSequence]


def _set_frames(twin: Dataset) -> None:
    """One frame per segment, where the label map has one for all."""
    (frame,) = twin.PerFrameFunctionalGroupsSequence
    dimensions = [SEGMENT, POSITION] if "PlanePositionSequence" in frame else [SEGMENT]
    set_dimensions(twin, dimensions)
    twin.NumberOfFrames = len(twin.SegmentSequence)
    twin.PerFrameFunctionalGroupsSequence = [
        _frame_of(item.SegmentNumber, frame, dimensions=len(dimensions)) for item in twin.SegmentSequence
    ]


def _frame_of(number: int, frame: Dataset, *, dimensions: int) -> Dataset:
    groups = deepcopy(frame)
    content = Dataset()
    content.DimensionIndexValues = [number, 1][:dimensions]
    groups.FrameContentSequence = [content]
    groups.update(segment_identification(number))
    return groups
