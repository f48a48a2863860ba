"""Parametric map of one heatmap: 32-bit floats, 0 to 1 (PS3.3 A.75).

The map lies on the matrix of its source, interpolated from the model's own grid: OHIF shows no
other (tried with 3.12 and 3.13), and nobody has to believe a synthetic plane to place it. Four bytes for
each pixel of the source are a thirtieth when values are hundredths and the file is deflated.
``encode.map = "coarse"`` keeps the model's grid, with its values as they are: Slicer and DCMTK read it,
smaller again. The plane is written under both geometries, because this IOD requires one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.codes import CHEST, DERIVATION_CALCULATION, NO_UNITS, QUANTITY, ascii_text, code_item
from cxr_dicom.encode.common import Head, new_object
from cxr_dicom.encode.geometry import plane_groups, plane_position
from cxr_dicom.encode.multiframe import bulk, set_frames
from cxr_dicom.encode.results import mapped, parametric_map
from cxr_dicom.records import ChestImage, Heatmap, ImageAnalysis, ObjectKind, Prediction, StudyAnalysis
from cxr_dicom.records.plane import Grid

SERIES_NUMBER = 9002
_STEPS = np.float32(100)  # from 0 to 1: all that `encode.stated` lets a class activation map say, and it deflates well
_FRAME_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]


def build(settings: Settings) -> Encoder:
    """Make the encoder of parametric maps."""
    return ParametricMapEncoder(settings)


class ParametricMapEncoder:
    """One parametric map, in its own series, per heatmap: OHIF shows the first map of a series only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the parametric maps of a study."""
        for analysis in study.images:
            for prediction, heatmap in mapped(analysis, self._settings):
                yield self._encode(analysis, prediction, heatmap)

    def _encode(self, analysis: ImageAnalysis, prediction: Prediction, heatmap: Heatmap) -> Encoded:
        image, model, settings = analysis.image, prediction.model, self._settings
        head = Head(
            reference=parametric_map(analysis, prediction, heatmap, settings),
            image=image,
            models=[model],
            settings=settings,
            modality="OT",
            series_number=SERIES_NUMBER,
            deflate=settings.encode.deflate,
            series_description=f"Map {heatmap.name} {model.name}",
        )
        dataset = new_object(head)
        dataset.ImageType = _FRAME_TYPE
        dataset.ContentLabel = "MAP"
        dataset.ContentDescription = ascii_text(heatmap.title, 64)
        dataset.ContentCreatorName = None
        dataset.ContentQualification = "RESEARCH"
        dataset.PixelPresentation = "MONOCHROME"
        dataset.BurnedInAnnotation = dataset.RecognizableVisualFeatures = "NO"
        dataset.PresentationLUTShape = "IDENTITY"
        dataset.AcquisitionContextSequence = []
        dataset.BitsAllocated = 32
        set_frames(
            dataset,
            image,
            plane=True,
            frames=[Dataset()],
            dimension=None,
            derivation=DERIVATION_CALCULATION,
            shared=_shared_groups(heatmap),
        )
        if settings.encode.map == "coarse":
            values = heatmap.values
            _place(dataset, image, heatmap.grid)
        else:
            values = heatmap.grid.resample(heatmap.values, image.shape, image.shape) * _STEPS
            np.rint(values, out=values)
            values /= _STEPS
        dataset.add(bulk("FloatPixelData", "OF", values.astype("<f4", copy=False)))
        return Encoded(ObjectKind.PARAMETRIC_MAP, dataset, (image.instance.sop_instance_uid,), model.name)


def _place(dataset: Dataset, image: ChestImage, grid: Grid) -> None:
    """Put a map that keeps the grid of its model where that grid lies on the image."""
    rows, columns = image.spacing.rows_mm, image.spacing.columns_mm
    spacing = replace(image.spacing, rows_mm=rows * grid.step[0], columns_mm=columns * grid.step[1])
    first = [
        (origin + step / 2 - 0.5) * mm for origin, step, mm in zip(grid.origin, grid.step, (rows, columns), strict=True)
    ]
    dataset.Rows, dataset.Columns = grid.shape
    (shared,), (frame,) = dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence
    shared.PixelMeasuresSequence = plane_groups(spacing).PixelMeasuresSequence
    frame.PlanePositionSequence = [plane_position(first[1], first[0])]


def _shared_groups(heatmap: Heatmap) -> Dataset:
    anatomy, window, transformation, frame_type = Dataset(), Dataset(), Dataset(), Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [code_item(CHEST)]
    window.WindowCenter, window.WindowWidth = "0.5", "1"
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = 0, 1, "US"
    frame_type.FrameType = _FRAME_TYPE
    groups = Dataset()
    groups.FrameAnatomySequence = [anatomy]
    groups.FrameVOILUTSequence = [window]
    groups.PixelValueTransformationSequence = [transformation]
    groups.ParametricMapFrameTypeSequence = [frame_type]
    groups.RealWorldValueMappingSequence = [_mapping(heatmap)]
    return groups


def _mapping(heatmap: Heatmap) -> Dataset:
    """Say what the values are: themselves, 0 to 1, of a coded quantity (PS3.3 C.7.6.16.2.11)."""
    quantity, mapping = Dataset(), Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [code_item(QUANTITY)]
    quantity.ConceptCodeSequence = [code_item(heatmap.quantity)]
    mapping.LUTLabel = ascii_text(heatmap.name, 16)
    mapping.LUTExplanation = ascii_text(heatmap.definition, 64)
    mapping.MeasurementUnitsCodeSequence = [code_item(NO_UNITS)]
    mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped = 0.0, 1.0
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    mapping.QuantityDefinitionSequence = [quantity]
    return mapping
