"""What an object takes from its source image: patient, study, character set, dates, references."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import cache
from hashlib import sha256
from io import BytesIO

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import VR

from cxr_dicom.config import Settings
from cxr_dicom.dicom.files import PARSING_ERRORS, values
from cxr_dicom.dicom.patient_age import is_date
from cxr_dicom.dicom.text import stored_text
from cxr_dicom.encode.codes import SOURCE_IMAGE, code_item
from cxr_dicom.encode.shared import shared
from cxr_dicom.encode.stream import write_dataset
from cxr_dicom.records import ChestImage, Code

_EMPTY_WHEN_MISSING = (  # Type 2 of the Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1) Modules
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_WHEN_PRESENT = (
    "SpecificCharacterSet",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDescription",
    "ProcedureCodeSequence",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ReferencedStudySequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdditionalPatientHistory",
    "AdmittingDiagnosesDescription",
    "LongitudinalTemporalInformationModified",
)
_EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
_ALSO_USED = (
    "PatientOrientation",
    "TimezoneOffsetFromUTC",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    *(f"{event}{part}" for event in ("Content", "Acquisition", "Series") for part in ("Date", "Time")),
)
_DATES = ("Content", "Acquisition", "Series", "Study")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_UNKNOWN_DATE = "19000101"
_UNREADABLE = (*PARSING_ERRORS, OSError)

ACQUISITION_EQUIPMENT = Code(value="109101", scheme="DCM", meaning="Acquisition Equipment")


def copy_patient_and_study(dataset: Dataset, header: Dataset) -> None:
    """Copy the Patient, General Study and Patient Study Modules, and their character set."""
    _copy(dataset, header, _WHEN_PRESENT)
    _copy(dataset, header, _EMPTY_WHEN_MISSING)
    for keyword, tag in zip(_EMPTY_WHEN_MISSING, _tags(_EMPTY_WHEN_MISSING), strict=True):
        if tag not in dataset.keys():  # noqa: SIM118 - see `_copy`
            setattr(dataset, keyword, "")


def about_study(images: Sequence[ChestImage]) -> ChestImage:
    """Return the image whose header speaks for a whole study: without what another one contradicts.

    What is contradicted is empty or left out in objects about the study. Texts and their character
    set come from one image, the first.
    """
    first, *others = images
    if not others:
        return first
    contradicted = {
        tag
        for tag in _tags((*_WHEN_PRESENT[1:], *_EMPTY_WHEN_MISSING, *_EQUIPMENT))
        if len({content for image in images if (content := _content(image.header, tag))}) > 1
    }
    header = Dataset()  # pydicom's copies share their elements
    header.update({tag: first.header.get_item(tag) for tag in first.header.keys() - contradicted})
    header.file_meta = first.header.file_meta
    return replace(first, header=header)


def _content(header: Dataset, tag: BaseTag) -> str:
    """An attribute as text that is equal where it says the same, in whatever character set."""
    keyword = keyword_for_tag(tag)
    if dictionary_VR(tag) != VR.SQ:
        return "\\".join(map(str, values(header, keyword))).strip("^= ")
    only, content = Dataset(), BytesIO()
    _copy(only, header, (keyword,))
    write_dataset(content, only)
    return content.getvalue().hex()


def copied_digest(header: Dataset) -> str:
    """SHA-256 of all that objects take from the source: it is part of their identity."""
    dataset, content = Dataset(), BytesIO()
    for keywords in (_WHEN_PRESENT, _EMPTY_WHEN_MISSING, _EQUIPMENT, _ALSO_USED):
        _copy(dataset, header, keywords)
    write_dataset(content, dataset)
    return sha256(content.getbuffer()).hexdigest()


def set_content_time(dataset: Dataset, header: Dataset, settings: Settings) -> None:
    """Set Content Date and Content Time, of the source or of now.

    A source without any date gives 1 January 1900: both attributes are Type 1.
    """
    _copy(dataset, header, ("TimezoneOffsetFromUTC",))
    if settings.encode.content_time == "now":
        now = datetime.now(_time_zone(header))  # the copied times of the study are in it too
        dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        return
    event = next((event for event in _DATES if is_date(_text(header, f"{event}Date"))), "")
    dataset.ContentDate = _text(header, f"{event}Date").replace(".", "") or _UNKNOWN_DATE
    time = _text(header, f"{event}Time")
    dataset.ContentTime = time if _TIME.fullmatch(time) else "000000"


def _time_zone(header: Dataset) -> tzinfo | None:
    """The time zone that the source names; None for that of this machine."""
    try:
        return datetime.strptime(_text(header, "TimezoneOffsetFromUTC"), "%z").tzinfo
    except ValueError:
        return None


def copy_lossy_compression(dataset: Dataset, header: Dataset) -> None:
    """Say whether the source was ever compressed with loss: the result descends from it."""
    dataset.LossyImageCompression = "01" if _text(header, "LossyImageCompression") == "01" else "00"
    if dataset.LossyImageCompression == "01":
        _copy(dataset, header, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))


def copy_patient_orientation(dataset: Dataset, header: Dataset) -> None:
    """Copy Patient Orientation; empty when it is missing."""
    dataset.PatientOrientation = ""
    _copy(dataset, header, ("PatientOrientation",))


def acquisition_equipment(header: Dataset) -> list[Dataset]:
    """Return the item of Contributing Equipment Sequence for the modality; none when it is not named."""
    item = Dataset()
    _copy(item, header, _EQUIPMENT)
    if "Manufacturer" not in item:
        return []
    item.PurposeOfReferenceCodeSequence = [code_item(ACQUISITION_EQUIPMENT)]
    return [item]


def reference(image: ChestImage) -> Dataset:
    """Return an item that names the source image (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.instance.sop_class_uid
    item.ReferencedSOPInstanceUID = image.instance.sop_instance_uid
    return item


@shared(maxsize=16)
def derivation_image(image: ChestImage, derivation: Code) -> Dataset:
    """Return an item that says how a frame came from the source image, pixel by pixel (PS3.3 C.7.6.16.2.6)."""
    source = reference(image)
    source.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    source.SpatialLocationsPreserved = "YES"
    item = Dataset()
    item.DerivationCodeSequence = [code_item(derivation)]
    item.SourceImageSequence = [source]
    return item


def referenced_series(image: ChestImage) -> Dataset:
    """Return the item of Referenced Series Sequence for the source image (PS3.3 C.12.2.1)."""
    item = Dataset()
    item.SeriesInstanceUID = image.instance.series_instance_uid
    item.ReferencedInstanceSequence = [reference(image)]
    return item


def _copy(dataset: Dataset, header: Dataset, keywords: tuple[str, ...]) -> None:
    """Copy what is there, not empty, and readable, text byte for byte; a damaged attribute never costs the result."""
    for tag in _tags(keywords):
        if tag not in header.keys():  # noqa: SIM118 - `in header` is ten times as slow
            continue
        if text := stored_text(header, tag):
            dataset[tag] = text
            continue
        try:
            element = header[tag]
        except _UNREADABLE:
            continue
        if not element.is_empty:
            dataset[tag] = copy(element)


@cache
def _tags(keywords: tuple[str, ...]) -> tuple[BaseTag, ...]:
    return tuple(map(Tag, keywords))


def _text(header: Dataset, keyword: str) -> str:
    """The value of an attribute as text; empty when it is missing or not readable."""
    try:
        return str(header.get(keyword) or "")
    except _UNREADABLE:
        return ""
