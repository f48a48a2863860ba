"""Grayscale softcopy presentation state: outlines, lines and text over the source image (PS3.3 A.33.1).

A few kilobytes that workstations show as overlays which a reader switches on and off, a layer for
each model. OHIF does not show it. It presents the image as the image asks for itself, and changes
nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.encode import results
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.codes import ascii_text
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, new_object
from cxr_dicom.encode.grayscale import set_grayscale
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.numbers import is_line
from cxr_dicom.encode.outline import outlines
from cxr_dicom.encode.source import reference, referenced_series
from cxr_dicom.records import (
    ChestImage,
    Detection,
    ImageAnalysis,
    Measurement,
    ObjectKind,
    Prediction,
    Presence,
    StudyAnalysis,
)
from cxr_dicom.records.plane import Point

SERIES_NUMBER = 9005
_LAYER_NAME = 16  # characters of a CS
_TEXT_BOX = (0.01, 0.01, 0.6, 0.12)  # left, top, right, bottom as parts of the displayed area; each layer lies below
_MAX_FINDINGS = 8  # as text; the report has all


def build(settings: Settings) -> Encoder:
    """Make the encoder of presentation states."""
    return PresentationStateEncoder(settings)


class PresentationStateEncoder:
    """One presentation state, in its own series, per source image; none where nothing was drawn or called."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the presentation states of a study."""
        for analysis in study.images:
            if results.presented(analysis):
                yield self._encode(analysis)

    def _encode(self, analysis: ImageAnalysis) -> Encoded:
        image, predictions = analysis.image, results.presented(analysis)
        head = Head(
            reference=results.presentation_state(analysis, self._settings),
            image=image,
            models=[prediction.model for prediction in predictions],
            settings=self._settings,
            modality="PR",
            series_number=SERIES_NUMBER,
            series_description="Overlay; not for clinical use",
        )
        dataset = new_object(head)
        dataset.PresentationCreationDate, dataset.PresentationCreationTime = dataset.ContentDate, dataset.ContentTime
        del dataset.ContentDate, dataset.ContentTime  # not of this IOD
        dataset.Laterality = ""  # a chest is not one of a pair
        dataset.ContentLabel = "AI_RESULTS"
        dataset.ContentDescription = ascii_text(f"Results of models; {NOT_FOR_CLINICAL_USE.lower()}", 64)
        dataset.ContentCreatorName = None
        source = referenced_series(image)
        source.ReferencedImageSequence = source.ReferencedInstanceSequence
        del source.ReferencedInstanceSequence
        dataset.ReferencedSeriesSequence = [source]
        dataset.DisplayedAreaSelectionSequence = [_displayed_area(image)]
        set_grayscale(dataset, image.header)
        names = _layer_names(predictions)
        dataset.GraphicLayerSequence = [
            _layer(name, order, prediction)
            for order, (name, prediction) in enumerate(zip(names, predictions, strict=True), start=1)
        ]
        dataset.GraphicAnnotationSequence = [
            _annotation(name, number, image, prediction)
            for number, (name, prediction) in enumerate(zip(names, predictions, strict=True))
        ]
        return Encoded(ObjectKind.PRESENTATION_STATE, dataset, (image.instance.sop_instance_uid,), None)


def _displayed_area(image: ChestImage) -> Dataset:
    """All of the image, as large as the screen allows (PS3.3 C.10.4)."""
    rows, columns = image.shape
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner, item.DisplayedAreaBottomRightHandCorner = [1, 1], [columns, rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    item.PresentationPixelAspectRatio = [1, 1]
    if image.spacing.is_physical:
        del item.PresentationPixelAspectRatio
        item.PresentationPixelSpacing = [
            float(f"{spacing:.10g}") for spacing in (image.spacing.rows_mm, image.spacing.columns_mm)
        ]
    return item


def _layer_names(predictions: Sequence[Prediction]) -> list[str]:
    """Name the layers after the models, as CS and without doubles."""
    names: list[str] = []
    for number, prediction in enumerate(predictions, start=1):
        name = re.sub(r"[^A-Z0-9]+", "_", prediction.model.name.upper())[:_LAYER_NAME]
        names.append(name if name not in names else f"{name[: _LAYER_NAME - 4]}_{number}")
    return names


def _layer(name: str, order: int, prediction: Prediction) -> Dataset:
    from highdicom.color import CIELabColor

    item = Dataset()
    item.GraphicLayer, item.GraphicLayerOrder = name, order
    item.GraphicLayerDescription = ascii_text(f"{prediction.model.title}; {NOT_FOR_CLINICAL_USE.lower()}", 64)
    found = [mask.structure.colour for mask in prediction.masks] or [(255, 220, 0)]
    item.GraphicLayerRecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*found[0]).value)
    return item


def _annotation(name: str, number: int, image: ChestImage, prediction: Prediction) -> Dataset:
    """What one model draws (PS3.3 C.10.5)."""
    item = Dataset()
    item.ReferencedImageSequence = [reference(image)]
    item.GraphicLayer = name
    graphics = [*_outlines(image, prediction), *_lines(image, prediction), *_boxes(image, prediction)]
    if graphics:
        item.GraphicObjectSequence = graphics
    item.TextObjectSequence = [_text(_caption(prediction), number), *map(_label, prediction.detections)]
    return item


def _outlines(image: ChestImage, prediction: Prediction) -> Iterator[Dataset]:
    for mask in prediction.masks:
        for polygon in outlines(mask.region):
            yield _polyline(polygon, mask.structure.name, tracking_uid(image, prediction.model, mask.structure.name))


def _lines(image: ChestImage, prediction: Prediction) -> Iterator[Dataset]:
    for measurement in prediction.measurements:
        if is_line(measurement):
            yield _polyline(
                measurement.points, measurement.name, tracking_uid(image, prediction.model, measurement.name)
            )


def _boxes(image: ChestImage, prediction: Prediction) -> Iterator[Dataset]:
    for detection in prediction.detections:
        yield _polyline(detection.corners, detection.key, tracking_uid(image, prediction.model, detection.key))


def _label(detection: Detection) -> Dataset:
    """What is in a box, and its score, at the top left corner of the box (PS3.3 C.10.5.1.1)."""
    item = Dataset()
    item.AnchorPointAnnotationUnits, item.AnchorPointVisibility = "PIXEL", "N"
    item.UnformattedTextValue = ascii_text(detection.label, 128)
    item.AnchorPoint = [float(np.float32(side)) for side in detection.box[:2]]
    return item


def _polyline(points: Sequence[Point], name: str, uid: str) -> Dataset:
    """One polyline in pixels of the source; the points of a polygon come closed."""
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions, item.GraphicType = "PIXEL", 2, "POLYLINE"
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [float(np.float32(value)) for point in points for value in point]
    if points[0] == points[-1]:
        item.GraphicFilled = "N"
    item.TrackingID, item.TrackingUID = name, uid
    return item


def _caption(prediction: Prediction) -> str:
    lines = [
        _number(measurement)
        for measurement in prediction.measurements
        if measurement.derived_from and measurement.value is not None
    ]
    present = sorted((f for f in prediction.findings if f.call is Presence.PRESENT), key=lambda f: -f.probability)
    lines += [f"{finding.code.meaning} {finding.probability:.2f}" for finding in present[:_MAX_FINDINGS]]
    if prediction.findings and not present:
        is_withheld = any(finding.is_withheld for finding in prediction.findings)
        lines.append("Findings are not called" if is_withheld else "No finding called present")
    return "\r\n".join([f"{prediction.model.name}: {NOT_FOR_CLINICAL_USE.lower()}", *lines])


def _number(measurement: Measurement) -> str:
    return f"{measurement.code.meaning} {results.shown(measurement)}"


def _text(text: str, number: int) -> Dataset:
    """Text in the corner of the displayed area, that of each layer below that of the one before."""
    left, top, right, bottom = _TEXT_BOX
    down = number * (bottom - top)
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = "\r\n".join(ascii_text(line, 128) for line in text.splitlines())[:1024]
    item.BoundingBoxTopLeftHandCorner = [left, min(top + down, 1.0)]
    item.BoundingBoxBottomRightHandCorner = [right, min(bottom + down, 1.0)]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item
