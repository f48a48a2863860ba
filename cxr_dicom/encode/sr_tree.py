"""The pieces of TID 1500 (PS3.16) that both reports are made of, in this package's own records.

Content items are highdicom's, put together here: its classes for whole groups look up the name of
every item again and again, which was half of the time of a report. What does not depend on the
image is made once, and stands in all groups that need it. Nothing here changes a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import highdicom.sr as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedSRStorage, GrayscaleSoftcopyPresentationStateStorage

from cxr_dicom import __version__
from cxr_dicom.dicom.codes import private
from cxr_dicom.encode.codes import ARTIFICIAL_INTELLIGENCE, ascii_text
from cxr_dicom.encode.identity import Reference, device_uid
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE, SegmentationPlan
from cxr_dicom.encode.shared import own, shared
from cxr_dicom.records import MANUFACTURER, ChestImage, Code, ModelInfo, StoredInstance
from cxr_dicom.records.plane import Point

_NOT_IMAGES = (EnhancedSRStorage, GrayscaleSoftcopyPresentationStateStorage, LABEL_MAP_STORAGE)
_CONTAINS = hd.RelationshipTypeValues.CONTAINS
_CONTEXT = hd.RelationshipTypeValues.HAS_ACQ_CONTEXT
_OBSERVED = hd.RelationshipTypeValues.HAS_OBS_CONTEXT
_MODIFIER = hd.RelationshipTypeValues.HAS_CONCEPT_MOD
_PROPERTY = hd.RelationshipTypeValues.HAS_PROPERTIES
_INFERRED = hd.RelationshipTypeValues.INFERRED_FROM

_SUMMARY = CodedConcept("121111", "DCM", "Summary")
_COMMENT = CodedConcept.from_code(codes.DCM.Comment)
_MEASUREMENT_GROUP = CodedConcept.from_code(codes.DCM.MeasurementGroup)
_TRACKING_IDENTIFIER = CodedConcept.from_code(codes.DCM.TrackingIdentifier)
_TRACKING_UID = CodedConcept.from_code(codes.DCM.TrackingUniqueIdentifier)
_PIXELS = CodedConcept("{pixels}", "UCUM", "pixels")
_RESULT = private("RESULT", "Result of the analysis")
_SOURCE = Code(value="260753009", scheme="SCT", meaning="Source")
_FINDING = Code(value="121071", scheme="DCM", meaning="Finding")
_MEASUREMENTS = Code(value="126010", scheme="DCM", meaning="Imaging Measurements")
_PURPOSE_OF_REGION = Code(value="130400", scheme="DCM", meaning="Geometric purpose of region")
_BOUNDED_BY = Code(value="75958009", scheme="SCT", meaning="Bounded by")
_MEASUREMENT_FAILURE = Code(value="114006", scheme="DCM", meaning="Measurement failure")
_LANGUAGE = hd.CodeContentItem(
    codes.DCM.LanguageOfContentItemAndDescendants,
    CodedConcept("en-US", "RFC5646", "English (United States)"),
    _MODIFIER,
)
_PROCEDURE = hd.CodeContentItem(
    codes.DCM.ProcedureReported, CodedConcept("399208008", "SCT", "Plain chest X-ray"), _MODIFIER
)


@shared()
def concept(code: Code) -> CodedConcept:
    """Return a code as highdicom wants it, with the one that says the same in another scheme (PS3.3 8.9)."""
    made = CodedConcept(code.value, code.scheme, ascii_text(code.meaning, 64))
    if (same := code.equivalent) is not None:
        made.EquivalentCodeSequence = [CodedConcept(same.value, same.scheme, ascii_text(same.meaning, 64))]
    return made


def comment(text: str) -> hd.TextContentItem:
    """Return a comment; OHIF shows the comment of a group as its label."""
    return hd.TextContentItem(_COMMENT, ascii_text(text, 1024), _CONTAINS)


@shared()
def observer(models: tuple[ModelInfo, ...]) -> hd.ObserverContext:
    """Return the observer: a device, namely these networks (TID 1004)."""
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=device_uid(models),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=ascii_text("+".join(model.name for model in models) or MANUFACTURER, 64),
        serial_number=__version__,
    )
    return hd.ObserverContext(codes.DCM.Device, device)


@shared()
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


@shared()
def sites(site: Code | None, laterality: Code | None = None) -> tuple[hd.FindingSite, ...]:
    """Return the finding site, if there is one."""
    if site is None:
        return ()
    return (hd.FindingSite(concept(site), laterality=concept(laterality) if laterality else None),)


@shared()
def modifying_sites(site: Code | None) -> tuple[hd.CodeContentItem, ...]:
    """Return the finding site as a modifier of one number, if there is one."""
    if site is None:
        return ()
    return (hd.CodeContentItem(codes.SCT.FindingSite, concept(site), _MODIFIER),)


def number(code: Code, value: float, unit: Code, content: Sequence[hd.ContentItem] = ()) -> hd.ContentItem:
    """Return a value that was measured (TID 300), with the coordinates, modifiers and properties in ``content``."""
    item = hd.NumContentItem(concept(code), _digits(value), concept(unit), relationship_type=_CONTAINS)
    return _holding(item, content) if content else item


@shared()
def numeric_property(code: Code, value: float, unit: Code) -> hd.NumContentItem:
    """Return a number that belongs to another one."""
    return hd.NumContentItem(concept(code), _digits(value), concept(unit), relationship_type=_PROPERTY)


def _digits(value: float) -> float:
    return float(f"{value:.6g}")  # six significant digits: no measurement here is better


def statement(concept_name: Code, value: Code, content: Iterable[hd.ContentItem]) -> hd.ContentItem:
    """Return a qualitative evaluation with what belongs to it."""
    return _holding(hd.CodeContentItem(concept(concept_name), concept(value), _CONTAINS), content)


@shared(maxsize=1024)
def call(concept_name: Code, value: Code, model: ModelInfo, reasons: tuple[str, ...]) -> hd.ContentItem:
    """Return what a network said of a finding, and why it says no more."""
    return statement(concept_name, value, [*algorithm_name(model), *map(reason, reasons)])


def algorithm_name(model: ModelInfo) -> tuple[hd.TextContentItem, hd.TextContentItem]:
    """Return which network made one item of a group to which several contribute: the required part of TID 4019."""
    return _algorithm_name(model)


@shared()
def _algorithm_name(model: ModelInfo) -> tuple[hd.TextContentItem, hd.TextContentItem]:
    return (
        hd.TextContentItem(codes.DCM.AlgorithmName, ascii_text(model.name, 64), _MODIFIER),
        hd.TextContentItem(codes.DCM.AlgorithmVersion, ascii_text(model.version, 64), _MODIFIER),
    )


@shared()
def about(code: Code) -> hd.CodeContentItem:
    """Return, as a modifier of a number, the finding that it is about."""
    return hd.CodeContentItem(concept(_FINDING), concept(code), _MODIFIER)


def reason(text: str) -> hd.TextContentItem:
    """Return why something is as it is, as a property of an evaluation."""
    return hd.TextContentItem(_COMMENT, ascii_text(text, 1024), _PROPERTY)


def summary(text: str) -> hd.TextContentItem:
    """Return one line of what a reader reads first."""
    return hd.TextContentItem(_SUMMARY, ascii_text(text, 1024), _CONTAINS)


def container(name: Code, content: Iterable[hd.ContentItem]) -> hd.ContentItem:
    """Return a section."""
    return _holding(hd.ContainerContentItem(concept(name), relationship_type=_CONTAINS), content)


@shared()
def evaluation(name: Code, value: Code) -> hd.CodeContentItem:
    """Return a qualitative evaluation: that ``name`` is ``value``."""
    return hd.CodeContentItem(concept(name), concept(value), _CONTAINS)


def finding(code: Code) -> hd.CodeContentItem:
    """Return what a group is about."""
    return evaluation(_FINDING, code)


def failure(code: Code, why: str) -> hd.ContentItem:
    """Return that something could not be measured, and why.

    A NUM without a value would say it too, but highdicom does not read one.
    """
    return statement(code, _MEASUREMENT_FAILURE, [reason(why)])


def line(image: ChestImage, points: Sequence[Point]) -> hd.CoordinatesForMeasurement:
    """Return the coordinates of a line on the source image."""
    return hd.CoordinatesForMeasurement("POLYLINE", np.array(points), _region_source(image.instance))


def bounding_box(image: ChestImage, corners: Sequence[Point]) -> tuple[hd.ContentItem, hd.ContentItem]:
    """Return a box as the region of a group, and that it bounds what was found (TID 1410)."""
    region = hd.ImageRegion("POLYLINE", np.array(corners), _region_source(image.instance))
    return region, evaluation(_PURPOSE_OF_REGION, _BOUNDED_BY)


@shared(maxsize=16)
def seen_on(instance: StoredInstance) -> hd.ImageContentItem:
    """Return the image that an evaluation outside of a group rests on."""
    return hd.ImageContentItem(
        concept(_SOURCE), instance.sop_class_uid, instance.sop_instance_uid, relationship_type=_INFERRED
    )


@shared(maxsize=16)
def source(instance: StoredInstance) -> hd.SourceImageForMeasurementGroup:
    """Return the image that a group is about."""
    return hd.SourceImageForMeasurementGroup(instance.sop_class_uid, instance.sop_instance_uid)


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


def segmented(instance: StoredInstance) -> hd.ImageContentItem:
    """Return the image that a segment was outlined on (TID 1411)."""
    return hd.ImageContentItem(
        codes.DCM.SourceImageForSegmentation,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def result(reference: Reference) -> hd.ContentItem:
    """Return a reference to another object that the same analysis gave.

    A label map is cited as a composite object: readers of reports do not know it for an image yet.
    """
    is_image = reference.sop_class_uid not in _NOT_IMAGES
    item = hd.ImageContentItem if is_image else hd.CompositeContentItem
    return item(
        concept(_RESULT),
        referenced_sop_class_uid=reference.sop_class_uid,
        referenced_sop_instance_uid=reference.identity.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def group(uid: str, identifier: str, items: Iterable[hd.ContentItem], template: str = "1501") -> hd.ContentItem:
    """Return a measurement group (TID 1501, 1410, 1411) of what ``uid`` tracks: ``items`` in the template's order."""
    tracking = (
        hd.TextContentItem(_TRACKING_IDENTIFIER, identifier, _OBSERVED),
        hd.UIDRefContentItem(_TRACKING_UID, uid, _OBSERVED),
    )
    container = hd.ContainerContentItem(_MEASUREMENT_GROUP, template_id=template, relationship_type=_CONTAINS)
    return _holding(container, [*tracking, *items])


@shared(maxsize=16)
def image_library(images: tuple[ChestImage, ...]) -> hd.ContentItem:
    """Return the images that were analysed (TID 1600), with what each says of itself.

    Built here, because highdicom needs Imager Pixel Spacing and Patient Orientation for it.
    """
    group = hd.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    library = hd.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    return _holding(library, [_holding(group, [_library_entry(image) for image in images])])


def _library_entry(image: ChestImage) -> hd.ContentItem:
    entry = hd.ImageContentItem(
        concept(_SOURCE),
        referenced_sop_class_uid=image.instance.sop_class_uid,
        referenced_sop_instance_uid=image.instance.sop_instance_uid,
        relationship_type=_CONTAINS,
    )
    return _holding(entry, _descriptors(image))


def _descriptors(image: ChestImage) -> Iterator[hd.ContentItem]:
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
    models: Sequence[ModelInfo],
    groups: Iterable[hd.ContentItem],
    notes: Iterable[hd.ContentItem],
    sections: Iterable[hd.ContentItem] = (),
) -> hd.ContentItem:
    """Return the root of a measurement report (TID 1500).

    Parameters
    ----------
    groups
        Its measurement groups.
    notes
        What a reader reads first.
    sections
        What comes after the measurements.
    """
    return _holding(
        hd.ContainerContentItem(concept(title), template_id="1500"),
        [
            own(_LANGUAGE),
            *observer(tuple(models)),
            own(_PROCEDURE),
            *notes,
            image_library(tuple(images)),
            container(_MEASUREMENTS, groups),
            *sections,
        ],
    )


def _holding(item: hd.ContentItem, content: Iterable[hd.ContentItem]) -> hd.ContentItem:
    """Return ``item`` with its content as pydicom's sequence: highdicom's indexes it by name, for readers."""
    item.add_new("ContentSequence", "SQ", list(content))
    return item


@shared(maxsize=16)
def _region_source(instance: StoredInstance) -> hd.SourceImageForRegion:
    return hd.SourceImageForRegion(instance.sop_class_uid, instance.sop_instance_uid)
