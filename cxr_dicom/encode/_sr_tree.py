"""The pieces of TID 1500 (PS3.16) that both reports are made of, in this package's own records.

What does not depend on the image is made once, and stands in all groups that need it: highdicom
makes a content item in a millisecond, and a report has hundreds. Nothing here changes a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

import highdicom.sr as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedSRStorage

from cxr_dicom.codes import private
from cxr_dicom.encode._codes import ARTIFICIAL_INTELLIGENCE, ascii_text
from cxr_dicom.encode._identity import Reference, device_uid
from cxr_dicom.encode._segments import LABEL_MAP_STORAGE, SegmentationPlan
from cxr_dicom.plane import Point
from cxr_dicom.records import MANUFACTURER, ChestImage, Code, ModelInfo

Group = hd.MeasurementsAndQualitativeEvaluations | hd.PlanarROIMeasurementsAndQualitativeEvaluations

_CONTAINS = hd.RelationshipTypeValues.CONTAINS
_CONTEXT = hd.RelationshipTypeValues.HAS_ACQ_CONTEXT
_RESULT = private("RESULT", "Result of the analysis")
_PIXELS = CodedConcept("{pixels}", "UCUM", "pixels")


@cache
def concept(code: Code) -> CodedConcept:
    """Return a code as highdicom wants it."""
    return CodedConcept(code.value, code.scheme, ascii_text(code.meaning, 64))


def comment(text: str) -> hd.TextContentItem:
    """Return a comment; OHIF shows the comment of a group as its label."""
    return hd.TextContentItem(codes.DCM.Comment, ascii_text(text, 1024), _CONTAINS)


def observer(models: Sequence[ModelInfo], version: str) -> hd.ObservationContext:
    """Return the observation context (TID 1001)."""
    return hd.ObservationContext(observer_device_context=observer_device(models, version))


def observer_device(models: Sequence[ModelInfo], version: str) -> hd.ObserverContext:
    """Return the observer: a device, namely these networks (TID 1004)."""
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=device_uid(models),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=ascii_text("+".join(model.name for model in models) or MANUFACTURER, 64),
        serial_number=version,
    )
    return hd.ObserverContext(codes.DCM.Device, device)


@cache
def algorithm(model: ModelInfo) -> hd.AlgorithmIdentification:
    """Return which network said it (TID 4019)."""
    weights = f"weights SHA-256 {model.weights_sha256}" if model.weights_sha256 else "no weights"
    return hd.AlgorithmIdentification(
        name=ascii_text(model.name, 64),
        version=ascii_text(model.version, 64),
        parameters=[weights],
        family=concept(ARTIFICIAL_INTELLIGENCE),
        manufacturer=ascii_text(model.manufacturer, 64),
    )


@cache
def sites(site: Code | None, laterality: Code | None = None) -> tuple[hd.FindingSite, ...]:
    """Return the finding site, if there is one."""
    if site is None:
        return ()
    return (hd.FindingSite(concept(site), laterality=concept(laterality) if laterality else None),)


def number(code: Code, value: float, unit: Code, lines: Iterable[hd.CoordinatesForMeasurement] = ()) -> hd.Measurement:
    """Return a value that was measured (TID 300), inferred from ``lines``."""
    return hd.Measurement(
        name=concept(code),
        value=float(f"{value:.6g}"),  # six significant digits: no measurement here is better
        unit=concept(unit),
        referenced_coordinates=list(lines) or None,
    )


@cache
def failure(code: Code) -> hd.QualitativeEvaluation:
    """Return that something could not be measured.

    A NUM without a value would say it too, but highdicom does not read one.
    """
    return hd.QualitativeEvaluation(concept(code), codes.DCM.MeasurementFailure)


def line(image: ChestImage, points: Sequence[Point]) -> hd.CoordinatesForMeasurement:
    """Return the coordinates of a line on the source image."""
    return hd.CoordinatesForMeasurement("POLYLINE", np.array(points), _region_source(image))


def region(image: ChestImage, points: Sequence[Point]) -> hd.ImageRegion:
    """Return a closed polygon on the source image."""
    return hd.ImageRegion("POLYLINE", np.array(points), _region_source(image))


@lru_cache(maxsize=16)
def source(sop_class_uid: str, sop_instance_uid: str) -> hd.SourceImageForMeasurementGroup:
    """Return the image that a group speaks of."""
    return hd.SourceImageForMeasurementGroup(sop_class_uid, sop_instance_uid)


def segment(plan: SegmentationPlan, name: str) -> hd.ImageContentItem:
    """Return a reference to the segment of structure ``name`` in a BINARY segmentation."""
    numbers = [number for number, mask in enumerate(plan.masks, start=1) if mask.structure.name == name]
    return hd.ImageContentItem(
        codes.DCM.ReferencedSegment,
        referenced_sop_class_uid=plan.reference.sop_class_uid,
        referenced_sop_instance_uid=plan.identity.sop_instance_uid,
        referenced_segment_numbers=numbers,
        relationship_type=_CONTAINS,
    )


def result(reference: Reference) -> hd.ContentItem:
    """Return a reference to another object that the same analysis gave.

    A label map is cited as a composite object: readers of reports do not know it for an image yet.
    """
    is_image = reference.sop_class_uid not in (EnhancedSRStorage, LABEL_MAP_STORAGE)
    item = hd.ImageContentItem if is_image else hd.CompositeContentItem
    return item(
        concept(_RESULT),
        referenced_sop_class_uid=reference.sop_class_uid,
        referenced_sop_instance_uid=reference.identity.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def append(group: Group, items: Iterable[hd.ContentItem]) -> Group:
    """Add ``items`` at the end of a measurement group."""
    group[0].ContentSequence.extend(items)
    return group


def image_library(images: Sequence[ChestImage]) -> hd.ContainerContentItem:
    """Return the images that were analysed (TID 1600), with what each says of itself.

    Built here, because highdicom needs Imager Pixel Spacing and Patient Orientation for it.
    """
    group = hd.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = hd.ContentSequence([_library_entry(image) for image in images])
    library = hd.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    library.ContentSequence = hd.ContentSequence([group])
    return library


def _library_entry(image: ChestImage) -> hd.ImageContentItem:
    entry = hd.ImageContentItem(
        CodedConcept("260753009", "SCT", "Source"),
        referenced_sop_class_uid=image.instance.sop_class_uid,
        referenced_sop_instance_uid=image.instance.sop_instance_uid,
        relationship_type=_CONTAINS,
    )
    entry.ContentSequence = hd.ContentSequence(list(_descriptors(image)))
    return entry


def _descriptors(image: ChestImage) -> Iterable[hd.ContentItem]:
    """What TID 1602 and TID 1603 ask for, as far as the image says it."""
    modality = codes.DCM.DigitalRadiography if image.header.get("Modality") == "DX" else codes.DCM.ComputedRadiography
    yield hd.CodeContentItem(codes.DCM.Modality, modality, _CONTEXT)
    rows, columns = image.shape
    yield hd.NumContentItem(codes.DCM.PixelDataRows, rows, _PIXELS, relationship_type=_CONTEXT)
    yield hd.NumContentItem(codes.DCM.PixelDataColumns, columns, _PIXELS, relationship_type=_CONTEXT)
    row, column = [*(image.header.get("PatientOrientation") or ()), "", ""][:2]
    if row and column:
        yield hd.TextContentItem(codes.DCM.PatientOrientationRow, row, _CONTEXT)
        yield hd.TextContentItem(codes.DCM.PatientOrientationColumn, column, _CONTEXT)
    if image.spacing.is_physical:
        for name, value in (
            (codes.DCM.HorizontalPixelSpacing, image.spacing.columns_mm),
            (codes.DCM.VerticalPixelSpacing, image.spacing.rows_mm),
        ):
            yield hd.NumContentItem(name, float(value), codes.UCUM.Millimeter, relationship_type=_CONTEXT)


def report(
    title: Code,
    images: Sequence[ChestImage],
    context: hd.ObservationContext,
    groups: Sequence[Group],
    notes: Iterable[str],
) -> Dataset:
    """Return the root of a measurement report (TID 1500) with its library, groups and notes."""
    root = hd.MeasurementReport(
        observation_context=context,
        procedure_reported=CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=groups,
        title=concept(title),
    )[0]
    measurements = root.ContentSequence.pop()
    root.ContentSequence.extend([image_library(images), measurements, *map(comment, notes)])
    return root


def _region_source(image: ChestImage) -> hd.SourceImageForRegion:
    return hd.SourceImageForRegion(image.instance.sop_class_uid, image.instance.sop_instance_uid)
