"""Which images are eligible, and why the others are not.

An eligible image is a frontal chest radiograph for presentation that can be decoded. The checks
stand in one table, in the order in which they are made: what an image is comes before whether it
is whole, so that the reason is the one that helps most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from cxr_dicom.config import SelectSettings
from cxr_dicom.dicom.files import Header, read_header, values
from cxr_dicom.dicom.patient_age import is_date
from cxr_dicom.dicom.text import shown
from cxr_dicom.errors import ImageError
from cxr_dicom.records import (
    MANUFACTURER,
    ChestImage,
    Reason,
    Selection,
    Skipped,
    Spacing,
    SpacingSource,
    StoredInstance,
    Study,
)
from cxr_dicom.records.plane import Orientation
from cxr_dicom.select.evidence import Evidence, body_part, directions, is_wrapped, stated_view, view
from cxr_dicom.select.identity import contradiction, identity_warnings, study_warnings

_ELIGIBLE_SOP_CLASSES = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation)
_SECONDARY_CAPTURES = (
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
_RADIOGRAPHY = ("CR", "DX")  # Modality
_SHAPES = ("IDENTITY", "INVERSE")  # Presentation LUT Shape of MONOCHROME2 and of MONOCHROME1 (PS3.3 C.8.11.3)
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate")
_NEVER_CITED = (Reason.OWN_OUTPUT, Reason.WRONG_SOP_CLASS)  # no object of ours speaks of such an instance
_PLAUSIBLE_SPACING_MM = (0.01, 10.0)

_TURNS: dict[
    tuple[str, ...], Orientation
] = {  # Patient Orientation: where the rows and the columns run to (PS3.3 C.7.6.1.1.1)
    ("L", "F"): Orientation(),
    ("R", "F"): Orientation(flip_columns=True),
    ("L", "H"): Orientation(flip_rows=True),
    ("R", "H"): Orientation(flip_rows=True, flip_columns=True),
    ("F", "L"): Orientation(transpose=True),
    ("F", "R"): Orientation(transpose=True, flip_columns=True),
    ("H", "L"): Orientation(transpose=True, flip_rows=True),
    ("H", "R"): Orientation(transpose=True, flip_rows=True, flip_columns=True),
}


def select(study: Study, settings: SelectSettings) -> Selection:
    """Sort the instances of a study into eligible images and skipped ones, in their order.

    Those beside it are looked at only to see whether all are of one patient.
    """
    headers: list[Dataset] = []
    examined: list[ChestImage | Skipped] = []
    for instance in (*study.instances, *study.beside):
        try:
            header = read_header(instance.path)
        except ImageError as error:
            examined.append(Skipped(path=instance.path, reason=error.reason, detail=error.detail, instance=instance))
            continue
        outcome = _examine(instance, header, settings)
        examined.append(outcome)
        if isinstance(outcome, ChestImage) or outcome.reason not in _NEVER_CITED:
            headers.append(header.dataset)
    examined = examined[: len(study.instances)]
    images = tuple(outcome for outcome in examined if isinstance(outcome, ChestImage))
    skipped = tuple(outcome for outcome in examined if isinstance(outcome, Skipped))
    if images and (problem := contradiction(headers)):
        refused = (_refused(image.instance, Reason.CONTRADICTORY_IDENTITY, problem) for image in images)
        return Selection(images=(), skipped=(*skipped, *refused))
    if differing := tuple(study_warnings([image.header for image in images])):
        images = tuple(replace(image, warnings=image.warnings + differing) for image in images)
    return Selection(images=images, skipped=skipped)


def _examine(instance: StoredInstance, header: Header, settings: SelectSettings) -> ChestImage | Skipped:
    candidate = _Candidate(header=header, settings=settings)
    for reason, problem_of in _CHECKS:
        if problem := problem_of(candidate):
            return _refused(instance, reason, problem)
    return ChestImage(
        instance=instance,
        header=header.dataset,
        view=stated_view(header),
        orientation=_TURNS.get(directions(header), Orientation()),
        spacing=_spacing(header),
        warnings=tuple(_warnings(candidate)),
    )


def _refused(instance: StoredInstance, reason: Reason, detail: str) -> Skipped:
    return Skipped(path=instance.path, reason=reason, detail=detail, instance=instance)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """One instance under examination."""

    header: Header
    settings: SelectSettings

    @property
    def modality(self) -> str:
        return shown(self.header.text("Modality"))

    @cached_property
    def body_part(self) -> Evidence:
        return body_part(self.header)

    @cached_property
    def view(self) -> Evidence:
        return view(self.header)


# --- checks: each says what is wrong, or nothing -------------------------------------------------


def _own_output(candidate: _Candidate) -> str:
    makers = [candidate.header.dataset, *candidate.header.values("ContributingEquipmentSequence")]
    if any(values(maker, "Manufacturer") == [MANUFACTURER] for maker in makers):
        return f"expected an image of another maker, found an object of {MANUFACTURER}"
    return ""


def _sop_class(candidate: _Candidate) -> str:
    found = UID(candidate.header.text("SOPClassUID"))
    if found in (*_ELIGIBLE_SOP_CLASSES, DigitalXRayImageStorageForProcessing):
        return ""
    if found not in _SECONDARY_CAPTURES:
        return f"expected a CR or a DX image for presentation, found {shown(found)}"
    if candidate.header.text("Modality").upper() not in _RADIOGRAPHY:
        return f"expected Modality CR or DX of a Secondary Capture, found {candidate.modality}"
    if candidate.settings.secondary_capture == "skip":
        return "found a Secondary Capture, and select.secondary_capture is skip"
    return ""


def _for_processing(candidate: _Candidate) -> str:
    by_class = candidate.header.text("SOPClassUID") == DigitalXRayImageStorageForProcessing
    if by_class or candidate.header.text("PresentationIntentType").upper() == "FOR PROCESSING":
        return "expected an image for presentation, found one for processing"
    return ""


def _colour(candidate: _Candidate) -> str:
    found = candidate.header.text("PhotometricInterpretation").upper()
    samples = candidate.header.integer("SamplesPerPixel")
    if found and (found not in ("MONOCHROME1", "MONOCHROME2") or samples not in (None, 1)):
        return f"expected one sample of MONOCHROME1 or MONOCHROME2, found {samples} of {shown(found)}"
    return ""


def _several_frames(candidate: _Candidate) -> str:
    frames = candidate.header.integer("NumberOfFrames")
    return f"expected one frame, found {frames}" if frames is not None and frames > 1 else ""


def _other_part(candidate: _Candidate) -> str:
    part = candidate.body_part
    return f"expected a chest, {part.source}" if part.holds is False else ""


def _unknown_part(candidate: _Candidate) -> str:
    if candidate.body_part.holds is None and candidate.settings.unknown_body_part == "skip":
        return "no attribute names the part of the body, and select.unknown_body_part is skip"
    return ""


def _other_view(candidate: _Candidate) -> str:
    found = candidate.view
    return f"expected a frontal view, {found.source}" if found.holds is False else ""


def _unknown_view(candidate: _Candidate) -> str:
    if candidate.view.holds is None and candidate.settings.unknown_view == "skip":
        return "no attribute names the view, and select.unknown_view is skip"
    return ""


def _attributes(candidate: _Candidate) -> str:
    if candidate.header.pixel_keyword != "PixelData":
        return f"expected Pixel Data, found {candidate.header.pixel_keyword or 'no pixel data'}"
    if not candidate.header.text("PhotometricInterpretation"):
        return "PhotometricInterpretation: expected MONOCHROME1 or MONOCHROME2, found none"
    allocated, stored = candidate.header.integer("BitsAllocated") or 0, candidate.header.integer("BitsStored") or 0
    for keyword, accepted in (
        ("Rows", range(1, 2**16)),
        ("Columns", range(1, 2**16)),
        ("SamplesPerPixel", (1,)),
        ("BitsAllocated", (8, 16)),
        ("BitsStored", range(2, allocated + 1)),
        ("HighBit", range(stored - 1, allocated)),
        ("PixelRepresentation", (0, 1)),
    ):
        found = candidate.header.integer(keyword)
        if found not in accepted:
            expected = " or ".join(map(str, accepted)) if isinstance(accepted, tuple) else _ends(accepted)
            return f"{keyword}: expected {expected}, found {'none' if found is None else found}"
    return ""


def _too_large(candidate: _Candidate) -> str:
    pixels, limit = _pixel_count(candidate.header), candidate.settings.max_pixels
    return f"expected {limit} pixels or fewer (select.max_pixels), found {pixels}" if pixels > limit else ""


def _undecodable(candidate: _Candidate) -> str:
    syntax = candidate.header.transfer_syntax
    return "" if _is_decodable(syntax) else f"expected a transfer syntax with a decoder, found {shown(syntax)}"


def _pixel_length(candidate: _Candidate) -> str:
    length, syntax = candidate.header.pixel_length, candidate.header.transfer_syntax
    if syntax.is_encapsulated:
        return "" if length is None else f"expected encapsulated pixel data in {shown(syntax)}, found {length} bytes"
    expected = _expected_length(candidate.header)
    if length is None or length < expected:
        return f"expected {expected} bytes of Pixel Data, found {'fragments' if length is None else length}"
    return ""


_CHECKS: tuple[tuple[Reason, Callable[[_Candidate], str]], ...] = (
    (Reason.OWN_OUTPUT, _own_output),
    (Reason.WRONG_SOP_CLASS, _sop_class),
    (Reason.FOR_PROCESSING, _for_processing),
    (Reason.NOT_GRAYSCALE, _colour),
    (Reason.MULTI_FRAME, _several_frames),
    (Reason.NOT_CHEST, _other_part),
    (Reason.NOT_FRONTAL, _other_view),
    (Reason.UNKNOWN_BODY_PART, _unknown_part),
    (Reason.UNKNOWN_VIEW, _unknown_view),
    (Reason.INVALID_ATTRIBUTES, _attributes),
    (Reason.MATRIX_TOO_LARGE, _too_large),
    (Reason.UNDECODABLE_TRANSFER_SYNTAX, _undecodable),
    (Reason.CORRUPT_PIXEL_DATA, _pixel_length),
)


def _ends(accepted: range) -> str:
    return f"{accepted.start} to {accepted.stop - 1}"


def _pixel_count(header: Header) -> int:
    return (header.integer("Rows") or 0) * (header.integer("Columns") or 0)


def _expected_length(header: Header) -> int:
    return _pixel_count(header) * (header.integer("BitsAllocated") or 0) // 8


@cache
def _is_decodable(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


# --- geometry ------------------------------------------------------------------------------------


def _spacing(header: Header) -> Spacing:
    """Take Pixel Spacing, else Imager Pixel Spacing, and say which (PS3.3 10.7.1.3)."""
    at_patient = _lengths(header, "PixelSpacing")
    at_detector = None if is_wrapped(header) else _lengths(header, "ImagerPixelSpacing")
    if at_patient and header.text("PixelSpacingCalibrationType"):
        return Spacing(rows_mm=at_patient[0], columns_mm=at_patient[1], source=SpacingSource.CALIBRATED)
    if at_patient and at_patient != at_detector:
        return Spacing(rows_mm=at_patient[0], columns_mm=at_patient[1], source=SpacingSource.PIXEL_SPACING)
    if at_detector:
        return Spacing(rows_mm=at_detector[0], columns_mm=at_detector[1], source=SpacingSource.IMAGER_PIXEL_SPACING)
    return Spacing(rows_mm=1.0, columns_mm=1.0, source=SpacingSource.NONE)


def _lengths(header: Header, keyword: str) -> tuple[float, float] | None:
    lowest, highest = _PLAUSIBLE_SPACING_MM
    try:
        rows, columns = map(float, header.values(keyword))
    except ValueError:
        return None
    return (rows, columns) if all(lowest <= length <= highest for length in (rows, columns)) else None


def _warnings(candidate: _Candidate) -> Iterator[str]:
    header = candidate.header
    yield from identity_warnings(header.dataset)
    if candidate.body_part.holds is None:
        yield "no attribute names the part of the body: taken for a chest"
    if candidate.view.holds is None:
        yield "no attribute names the view: taken for frontal"
    yield from _storage_warnings(header)
    if is_wrapped(header):
        yield "made from a picture: taken as in the standard view, with what is bright dense"
    elif directions(header) not in _TURNS:
        yield "Patient Orientation is missing or unknown: taken as stored in the standard view"
    if header.values("PixelSpacing") and not _lengths(header, "PixelSpacing"):
        yield (
            "Pixel Spacing is not usable: OHIF 3.13 shows an image black whose Pixel Spacing is 0; "
            "--geometry picture writes pictures that every viewer shows"
        )
    if _spacing(header).source is SpacingSource.NONE:
        yield "no usable spacing: lengths are in pixels"
    excess = (header.pixel_length or 0) - _expected_length(header)
    if excess > 1:  # one byte may be padding
        yield f"Pixel Data has {excess} bytes more than Rows and Columns say"


def _storage_warnings(header: Header) -> Iterator[str]:
    """What the attributes say that viewers read in different ways, or not at all."""
    is_capture = header.text("SOPClassUID") in _SECONDARY_CAPTURES
    burned_in = header.text("BurnedInAnnotation").upper()
    if is_capture:
        yield "a Secondary Capture: grey levels are those of the capture, geometry only as far as it is stated"
    if not is_wrapped(header) and (burned_in == "YES" or (is_capture and burned_in != "NO")):
        yield "text may be burned into the pixels: Burned In Annotation is " + ("YES" if burned_in else "not stated")
    photometric = header.text("PhotometricInterpretation")
    if str(header.dataset.get("PhotometricInterpretation")) != photometric.upper():
        yield f"Photometric Interpretation is not spelled as the standard has it: read as {photometric.upper()}"
    shape = header.text("PresentationLUTShape").upper()
    if shape in _SHAPES and shape != _SHAPES[photometric.upper() == "MONOCHROME1"]:
        yield f"Presentation LUT Shape {shape} contradicts {photometric.upper()}, which is what counts"
    for keyword in _DATES:
        if (text := header.text(keyword)) and not is_date(text):
            yield f"{keyword} is no date: not used"
