"""What segmentations and parametric maps share: enhanced multi-frame images of one radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag

from cxr_dicom.encode.geometry import plane_groups, plane_position, set_frame_of_reference
from cxr_dicom.encode.identity import derived_uid
from cxr_dicom.encode.source import (
    copy_lossy_compression,
    copy_patient_orientation,
    derivation_image,
    reference,
    referenced_series,
)
from cxr_dicom.records import ChestImage, Code


class Dimension(NamedTuple):
    """What frames are indexed by."""

    keyword: str  # Dimension Index Pointer
    group: str  # Functional Group Pointer


POSITION = Dimension("ImagePositionPatient", "PlanePositionSequence")
_LABEL = Dimension("FrameLabel", "FrameContentSequence")


def set_frames(
    dataset: Dataset,
    image: ChestImage,
    *,
    plane: bool,
    frames: Sequence[Dataset],
    dimension: Dimension | None,
    derivation: Code,
    shared: Dataset,
) -> None:
    """Set matrix, dimensions, functional groups and references (PS3.3 C.7.6.16, C.7.6.17, C.12.2).

    Parameters
    ----------
    plane
        Whether to state the synthetic plane.
    frames
        The functional groups that only this frame has, for each frame.
    dimension
        What distinguishes the frames; None for a single frame.
    derivation
        How frames came from the source (CID 7203).
    shared
        Functional groups that all frames share, besides the plane.
    """
    dataset.Rows, dataset.Columns = image.shape
    dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    copy_lossy_compression(dataset, image.header)
    dataset.SourceImageSequence = [reference(image)]
    dataset.ReferencedSeriesSequence = [referenced_series(image)]
    dimensions = [dimension] if dimension else []
    if plane:
        set_frame_of_reference(dataset, image)
        shared.update(plane_groups(image.spacing))
        dimensions.append(POSITION)
    else:
        copy_patient_orientation(dataset, image.header)
        dimensions = dimensions or [_LABEL]
    set_dimensions(dataset, dimensions)
    dataset.SharedFunctionalGroupsSequence = [shared]
    origin = derivation_image(image, derivation)
    dataset.PerFrameFunctionalGroupsSequence = [
        _complete(groups, number, dimensions, origin) for number, groups in enumerate(frames, start=1)
    ]


def set_dimensions(dataset: Dataset, dimensions: Sequence[Dimension]) -> None:
    """State what frames are indexed by (PS3.3 C.7.6.17); the organization's UID follows from the object's."""
    organization = Dataset()
    organization.DimensionOrganizationUID = derived_uid("dimensions", dataset.SOPInstanceUID)
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = [
        _index(dimension, organization.DimensionOrganizationUID) for dimension in dimensions
    ]


def bulk(keyword: str, vr: str, values: NDArray[Any]) -> DataElement:
    """Return pixel data, an even number of bytes, as they lie in memory: pydicom's bytes and streams are copies."""
    return DataElement(keyword, vr, values.reshape(-1).view(np.uint8).data, already_converted=True)


def _index(dimension: Dimension, organization_uid: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = organization_uid
    item.DimensionIndexPointer = Tag(dimension.keyword)
    item.FunctionalGroupPointer = Tag(dimension.group)
    item.DimensionDescriptionLabel = dictionary_description(tag_for_keyword(dimension.keyword) or 0)
    return item


def _complete(groups: Dataset, number: int, dimensions: Sequence[Dimension], origin: Dataset) -> Dataset:
    content = Dataset()
    content.DimensionIndexValues = [number, 1][: len(dimensions)]
    if dimensions == [_LABEL]:
        content.FrameLabel = "Frame"
    groups.FrameContentSequence = [content]
    groups.DerivationImageSequence = [origin]
    if POSITION in dimensions:
        groups.PlanePositionSequence = [plane_position()]
    return groups
