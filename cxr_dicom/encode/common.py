"""What all objects share: their head, who and what made them, and how they reach the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.dicom.codes import PRIVATE_SCHEME
from cxr_dicom.dicom.deflate import MOST_INFLATED, deflate
from cxr_dicom.encode import stream
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.codes import PROCESSING_EQUIPMENT, ascii_text, code_item, coding_scheme_items, joined
from cxr_dicom.encode.identity import Reference, device_uid
from cxr_dicom.encode.shared import shared
from cxr_dicom.encode.source import acquisition_equipment, copy_patient_and_study, set_content_time
from cxr_dicom.records import MANUFACTURER, ChestImage, EncodedObject, ModelInfo, SpacingSource
from cxr_dicom.system import atomic

NOT_FOR_CLINICAL_USE = "Not for clinical use"

_IMPLEMENTATION_CLASS_UID = "2.25.326227403839418139413853413893152413427"
_SPACING = {
    SpacingSource.CALIBRATED: "pixel spacing from Pixel Spacing, calibrated",
    SpacingSource.PIXEL_SPACING: "pixel spacing from Pixel Spacing, calibration not stated",
    SpacingSource.IMAGER_PIXEL_SPACING: (
        "pixel spacing from Imager Pixel Spacing at the detector, not corrected for magnification"
    ),
    SpacingSource.NONE: "pixel spacing not known: lengths are in pixels, and geometry takes 1.0 mm",
}


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an object is, before it says anything."""

    reference: Reference  # its SOP class and UIDs
    image: ChestImage  # the source image whose patient and study attributes are copied
    models: Sequence[ModelInfo]  # the networks that it speaks for
    settings: Settings
    modality: str
    series_number: int
    series_description: str
    deflate: bool = False  # most of it repeats itself, and the settings want that deflated


def new_object(head: Head) -> Dataset:
    """Begin an object: file meta, patient, study, series, equipment, provenance, content time."""
    sop_class_uid, identity = head.reference
    header = head.image.header
    dataset = Dataset()
    dataset.file_meta = _file_meta(head)
    copy_patient_and_study(dataset, header)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, identity.sop_instance_uid
    dataset.SeriesInstanceUID, dataset.SeriesNumber = identity.series_instance_uid, head.series_number
    dataset.InstanceNumber = 1
    dataset.Modality = head.modality
    dataset.SeriesDescription = ascii_text(head.series_description, 64)
    set_content_time(dataset, header, head.settings)
    _set_equipment(dataset, head)
    dataset.CodingSchemeIdentificationSequence = coding_scheme_items(MANUFACTURER, PRIVATE_SCHEME)
    return dataset


def spacing_text(image: ChestImage) -> str:
    """Say where the millimetres of an image come from."""
    return _SPACING[image.spacing.source]


def write(encoded: Encoded, folder: Path) -> EncodedObject:
    """Write an object durably: it is on the disk, whole, when this returns.

    The file is ``<kind>-<SOP Instance UID>.dcm`` in ``folder``. Equal objects give equal bytes, but for what one
    build of zlib deflates otherwise than another.
    """
    dataset = encoded.dataset
    path = folder / f"{encoded.kind}-{dataset.SOPInstanceUID}.dcm"
    with atomic.open_bytes(path) as file:
        write_file(file, dataset)
    return EncodedObject(
        path=path,
        kind=encoded.kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        source_sop_instance_uids=encoded.source_sop_instance_uids,
        model=encoded.model,
    )


def write_file(file: BinaryIO, dataset: Dataset) -> None:
    """Write what the file of an object holds, deflated where its transfer syntax says so and it can be read again."""
    pieces, meta = tuple(stream.pieces(dataset)), dataset.file_meta
    if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian and sum(map(len, pieces)) > MOST_INFLATED:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.write(_preface(meta))
    is_deflated, in_runs = meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian, "PixelData" in dataset
    file.writelines(deflate(pieces, in_runs=in_runs) if is_deflated else pieces)


def _preface(meta: FileMetaDataset) -> bytes:
    """What stands in a file before the data set itself (PS3.10 7.1)."""
    elements, length = b"".join(stream.pieces(meta)), Dataset()
    length.add_new("FileMetaInformationGroupLength", "UL", len(elements))
    return b"".join((b"\0" * 128, b"DICM", *stream.pieces(length), elements))


def _file_meta(head: Head) -> FileMetaDataset:
    sop_class_uid, identity = head.reference
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian if head.deflate else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = f"CXR_DICOM_{__version__}"[:16]
    return meta


def _set_equipment(dataset: Dataset, head: Head) -> None:
    """General and Enhanced General Equipment, and what contributed (PS3.3 C.7.5.1, C.7.5.2, C.12.1)."""
    names, spacing = [model.name for model in head.models], spacing_text(head.image)
    geometry, digest = head.settings.encode.geometry, head.settings.digest
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = ascii_text("+".join(names) or MANUFACTURER, 64)
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = device_uid(head.models)
    dataset.ContributingEquipmentSequence = [
        *acquisition_equipment(head.image.header),
        *(_processing_equipment(model, spacing, geometry, digest) for model in head.models),
    ]


@shared(maxsize=64)
def _processing_equipment(model: ModelInfo, spacing: str, geometry: str, settings_digest: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.Manufacturer = ascii_text(model.manufacturer, 64)
    item.ManufacturerModelName = ascii_text(model.name, 64)
    item.SoftwareVersions = ascii_text(model.version, 64)
    item.DeviceUID = device_uid([model])
    item.ContributionDescription = joined(
        (
            f"{NOT_FOR_CLINICAL_USE}",
            f"{MANUFACTURER} {__version__}",
            f"weights SHA-256 {model.weights_sha256}" if model.weights_sha256 else "no weights",
            f"settings SHA-256 {settings_digest}",
            f"geometry {geometry}",
            spacing,
            model.citation,
        ),
        1024,
    )
    return item
