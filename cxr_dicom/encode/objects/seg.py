"""Segmentation of one source image by one model (PS3.3 A.51, A.101).

Written directly, not through a library: structures come as crops of their bounding box, and are
packed or painted one by one into the stored bytes; no stack of full-size planes is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.codes import DERIVATION_SEGMENTATION, algorithm_item, ascii_text, code_item
from cxr_dicom.encode.common import Head, new_object
from cxr_dicom.encode.geometry import has_plane
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.multiframe import Dimension, bulk, set_frames
from cxr_dicom.encode.segments import SegmentationPlan, SegmentationType, plan_segmentations
from cxr_dicom.encode.shared import shared
from cxr_dicom.records import (
    ChestImage,
    Code,
    ImageAnalysis,
    Mask,
    ModelInfo,
    ObjectKind,
    Prediction,
    Structure,
    StudyAnalysis,
)
from cxr_dicom.records.plane import Region, Shape

SERIES_NUMBER = 9006
SEGMENT = Dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence")


def build(settings: Settings) -> Encoder:
    """Make the encoder of segmentations."""
    return SegmentationEncoder(settings)


class SegmentationEncoder:
    """One segmentation, in its own series, per source image and model; see ``encode.segments``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the segmentations of a study."""
        for analysis in study.images:
            for prediction in analysis.predictions:
                for plan in plan_segmentations(analysis, prediction, self._settings):
                    yield self._encode(analysis, prediction, plan)

    def _encode(self, analysis: ImageAnalysis, prediction: Prediction, plan: SegmentationPlan) -> Encoded:
        image, model = analysis.image, prediction.model
        head = Head(
            reference=plan.reference,
            image=image,
            models=[model],
            settings=self._settings,
            modality="SEG",
            series_number=SERIES_NUMBER,
            deflate=self._settings.encode.deflate,
            series_description=f"Segmentation {model.name}",
        )
        dataset = new_object(head)
        dataset.ImageType = ["DERIVED", "PRIMARY"]
        dataset.ContentLabel = "SEGMENTATION"
        dataset.ContentDescription = ascii_text(f"{model.title}; not for clinical use", 64)
        dataset.ContentCreatorName = None
        dataset.SegmentSequence = [
            _segment(number, mask, image, model) for number, mask in enumerate(plan.masks, start=1)
        ]
        set_pixels(dataset, plan.type, [mask.region for mask in plan.masks])
        set_frames(
            dataset,
            image,
            plane=has_plane(self._settings),
            frames=_frames(plan),
            dimension=SEGMENT if plan.type == "BINARY" else None,
            derivation=DERIVATION_SEGMENTATION,
            shared=Dataset(),
        )
        return Encoded(ObjectKind.SEGMENTATION, dataset, (image.instance.sop_instance_uid,), model.name)


def _segment(number: int, mask: Mask, image: ChestImage, model: ModelInfo) -> Dataset:
    """Describe one structure (PS3.3 C.8.20.4)."""
    item = Dataset()
    item.update(_described(mask.structure, model))
    item.SegmentNumber = number
    item.TrackingUID = tracking_uid(image, model, mask.structure.name)
    return item


@shared()
def _described(structure: Structure, model: ModelInfo) -> Dataset:
    """What each segment of a structure says, on whatever image."""
    from highdicom.color import CIELabColor

    item = Dataset()
    item.SegmentLabel = ascii_text(structure.title, 64)
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = ascii_text(model.name, 64)
    item.SegmentationAlgorithmIdentificationSequence = [algorithm_item(model)]
    item.SegmentedPropertyCategoryCodeSequence = [code_item(structure.category)]
    item.SegmentedPropertyTypeCodeSequence = [_type_item(structure.type, structure.laterality)]
    item.RecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*structure.colour).value)
    item.TrackingID = structure.name
    return item


@shared()
def _type_item(kind: Code, laterality: Code | None) -> Dataset:
    item = Dataset()
    item.update(code_item(kind))
    if laterality:
        item.SegmentedPropertyTypeModifierCodeSequence = [code_item(laterality)]
    return item


def _frames(plan: SegmentationPlan) -> list[Dataset]:
    if plan.type == "LABELMAP":
        return [Dataset()]
    return [segment_identification(number) for number in range(1, len(plan.masks) + 1)]


def segment_identification(number: int) -> Dataset:
    """Return the functional groups that say whose frame it is (PS3.3 C.8.20.3.1)."""
    identification = Dataset()
    identification.ReferencedSegmentNumber = number
    groups = Dataset()
    groups.SegmentIdentificationSequence = [identification]
    return groups


def set_pixels(dataset: Dataset, kind: SegmentationType, regions: Sequence[Region]) -> None:
    """Set Segmentation Type, the pixels, and what describes them; segment ``i + 1`` is ``regions[i]``."""
    dataset.SegmentationType = kind
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    if kind == "LABELMAP":
        dataset.PixelPaddingValue = 0
        dataset["PixelPaddingValue"].VR = "US"
    else:
        dataset.SegmentsOverlap = "UNDEFINED"
    dataset.add(bulk("PixelData", "OB", pack(regions) if kind == "BINARY" else paint(regions)))


def paint(regions: Sequence[Region]) -> NDArray[np.uint8]:
    """Return the label map of disjoint regions: pixel value ``i + 1`` is ``regions[i]``."""
    rows, columns = regions[0].shape
    stored = _zeros(rows * columns)
    labels = stored[: rows * columns].reshape(rows, columns)
    for number, region in enumerate(regions, start=1):
        labels[region.box.slices][region.pixels] = number
    return stored


def pack(regions: Sequence[Region]) -> NDArray[np.uint8]:
    """Return one frame per region, one bit per pixel, frames end to end without padding (PS3.5 8.1.1)."""
    rows, columns = regions[0].shape
    packed = _zeros((len(regions) * rows * columns + 7) // 8)
    for number, region in enumerate(regions):
        first_bit = (number * rows + region.box.top) * columns
        bits = _rows_of(region, lead=first_bit % 8)
        bytes_ = np.packbits(bits, bitorder="little")
        packed[first_bit // 8 : first_bit // 8 + bytes_.size] |= bytes_
    return packed


def _zeros(size: int) -> NDArray[np.uint8]:
    """Pixel data have an even number of bytes (PS3.5 7.1)."""
    return np.zeros(size + size % 2, np.uint8)


def _rows_of(region: Region, lead: int) -> NDArray[np.bool_]:
    """The full rows that a region reaches, as one line of bits after ``lead`` zeros."""
    shape: Shape = (region.box.shape[0], region.shape[1])
    bits = np.zeros(lead + shape[0] * shape[1], bool)
    bits[lead:].reshape(shape)[:, region.box.left : region.box.right] = region.pixels
    return bits
