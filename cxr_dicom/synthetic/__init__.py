"""Synthetic studies for tests and for users who want to try a set-up without patient data.

Nothing here is a mock: :func:`radiograph` returns a complete DX or CR data set, valid under
``dciodvfy``, whose pixels look enough like a frontal chest to find the parts by eye. Equal
arguments give equal bytes.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

from cxr_dicom.records.plane import Orientation

Array = NDArray[Any]
Photometric = Literal["MONOCHROME1", "MONOCHROME2"]

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "F": "H", "H": "F"}
_IMPLEMENTATION_CLASS_UID = UID("2.25.188271012583174361268291173362143462041")


def radiograph(
    rows: int = 320,
    columns: int = 256,
    *,
    seed: int = 0,
    modality: Literal["DX", "CR"] = "DX",
    photometric: Photometric = "MONOCHROME2",
    bits_allocated: Literal[8, 16] = 16,
    bits_stored: int = 12,
    high_bit: int | None = None,
    signed: bool = False,
    overlay_bits: bool = False,
    study: str = "1",
    **attributes: Any,
) -> Dataset:
    """Make a frontal chest radiograph in the standard view, Explicit VR Little Endian.

    Parameters
    ----------
    rows, columns
        Size of the matrix in pixels.
    seed
        Chooses the noise and small differences of anatomy; part of the identity of the image.
    modality
        ``DX`` gives Digital X-Ray Image Storage - For Presentation, ``CR`` Computed Radiography.
    photometric
        ``MONOCHROME1`` stores the inverse: the displayed picture is the same.
    bits_allocated, bits_stored, high_bit, signed
        How a pixel is stored (PS3.3 C.7.6.3.1); `high_bit` None is ``bits_stored - 1``.
    overlay_bits
        Set bits above the high bit, as retired embedded overlays do (PS3.5 8.1.2).
    study
        Images with the same text share a study and a series.
    **attributes
        DICOM keywords to set, or, with None, to leave out: ``ViewPosition="LL"``,
        ``PixelSpacing=None``. They are set last and are not checked.

    Returns
    -------
    Dataset
        With file meta information. Its SOP Instance UID derives from its content.
    """
    if not 2 <= bits_stored <= bits_allocated:
        raise ValueError(f"bits_stored: expected 2 to {bits_allocated}, got {bits_stored}")
    high_bit = bits_stored - 1 if high_bit is None else high_bit
    picture = frontal_chest(rows, columns, seed)
    if photometric == "MONOCHROME1":
        picture = 1 - picture
    top = 2**bits_stored - 1
    values = np.rint(picture * top).astype(np.int64) - (2 ** (bits_stored - 1) if signed else 0)

    dataset = Dataset()
    _describe_study(dataset, study)
    (_describe_dx if modality == "DX" else _describe_cr)(dataset, photometric)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits_allocated, bits_stored, high_bit
    dataset.PixelRepresentation = int(signed)
    dataset.WindowCenter = float(np.rint(top / 2)) - (2 ** (bits_stored - 1) if signed else 0)
    dataset.WindowWidth = float(top)
    _store(dataset, values, overlay_bits)
    _set(dataset, attributes)
    _identified(dataset)
    _set(dataset, {keyword: value for keyword, value in attributes.items() if keyword == "SOPInstanceUID"})
    return _with_file_meta(dataset)


def with_pixel_spacing(source: Dataset, spacing_mm: float) -> Dataset:
    r"""Copy a radiograph and state a Pixel Spacing, which is assumed, in a study of the copy's own.

    Viewers that place images by millimetres show neither a radiograph with Pixel Spacing 0\0 nor what lies on it.

    Parameters
    ----------
    source
        A radiograph with file meta information; it is not changed.
    spacing_mm
        Between the centres of neighbouring pixels, in both directions.

    Returns
    -------
    Dataset
        With the same pixels. Its UIDs derive from those of `source` and from the spacing.
    """
    copy = deepcopy(source)
    copy.PixelSpacing = [spacing_mm, spacing_mm]
    copy.ImageComments = f"Pixel Spacing {spacing_mm} mm is assumed"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        copy[keyword].value = _uid(source[keyword].value, spacing_mm)
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    return copy


def frontal_chest(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw a frontal chest in the standard view: 0 is black (air), 1 is white (dense).

    Lungs are dark, the mediastinum, the heart (to the patient's left), the liver and bones are
    bright; the right half of the diaphragm stands higher. It is a drawing, not a physical model.
    """
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij", sparse=True)
    heart_size = random.uniform(0.9, 1.1)

    def ellipsoid(centre_x: float, centre_y: float, radius_x: float, radius_y: float) -> Array:
        return np.sqrt(np.clip(1 - ((x - centre_x) / radius_x) ** 2 - ((y - centre_y) / radius_y) ** 2, 0, None))

    def ridge(distance: Array, width: float) -> Array:
        return np.exp(-((distance / width) ** 2))

    body = np.clip(1 - (np.abs(x) / np.clip(0.62 + 1.4 * (y + 1), 0, 0.97)) ** 4, 0, None) ** 0.5
    body = np.where(y < -0.8, np.maximum(body, 0.9 * (np.abs(x) < 0.2)), body)
    diaphragm = np.where(x < 0, 0.42 + 0.9 * (x + 0.42) ** 2, 0.5 + 0.9 * (x - 0.45) ** 2)
    above = 1 / (1 + np.exp((y - diaphragm) * 60))
    lungs = (ellipsoid(-0.46, -0.1, 0.37, 0.85) + ellipsoid(0.47, -0.1, 0.36, 0.85)) ** 0.5 * above
    inside = (lungs > 0) | (np.abs(x) < 0.3) & (y < 0.4)
    heart = ellipsoid(0.12, 0.28, 0.38 * heart_size, 0.36 * heart_size) * above
    spine = ridge(x, 0.1) * (1 + 0.12 * np.cos(2 * np.pi * 9 * y))
    arcs = [ridge(y - level - 0.35 * np.abs(x) ** 1.5 + 0.12, 0.022) for level in np.linspace(-0.75, 0.35, 9)]
    clavicles = ridge(y + 0.68 + 0.16 * np.abs(x), 0.03) * (np.abs(x) > 0.08) * (np.abs(x) < 0.8)
    hila = ridge(np.hypot(np.abs(x) - 0.2, y - 0.02), 0.12)
    picture = (
        0.62 * body
        - 0.46 * lungs * body * (1 - 0.6 * heart)
        + 0.1 * heart
        + 0.2 * spine * body
        + 0.09 * sum(arcs) * inside
        + 0.1 * clavicles
        + 0.1 * hila * body
    )
    noise = random.normal(0, 0.012, (rows, columns))
    return np.clip(picture + 0.03 + noise, 0, 1).astype(np.float32)


def turned(dataset: Dataset, orientation: Orientation) -> Dataset:
    """Return a mirrored or rotated copy whose Patient Orientation says so.

    Parameters
    ----------
    dataset
        An image that states its Patient Orientation.
    orientation
        From the matrix of the copy back to the matrix of `dataset`: where `dataset` is in the
        standard view, this is the turn that selection must find for the copy.
    """
    copy = _native_copy(dataset)
    row, column = dataset.PatientOrientation
    if orientation.flip_columns:
        row = _opposite(row)
    if orientation.flip_rows:
        column = _opposite(column)
    copy.PatientOrientation = [column, row] if orientation.transpose else [row, column]
    if orientation.transpose:
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
            if keyword in copy:
                setattr(copy, keyword, list(copy[keyword].value)[::-1])
    stored = orientation.to_source(dataset.pixel_array)
    copy.Rows, copy.Columns = stored.shape
    _store(copy, stored.astype(np.int64))
    return _identified(copy)


def monochrome2(dataset: Dataset) -> Dataset:
    """Return a MONOCHROME2 copy of a MONOCHROME1 image that displays the same picture."""
    copy = _native_copy(dataset)
    mirror = -1 if dataset.PixelRepresentation else 2**dataset.BitsStored - 1
    _store(copy, mirror - dataset.pixel_array.astype(np.int64))
    copy.PhotometricInterpretation = "MONOCHROME2"
    if "PresentationLUTShape" in copy:
        copy.PresentationLUTShape = "IDENTITY"
    if "PixelIntensityRelationshipSign" in copy:
        copy.PixelIntensityRelationshipSign *= -1
    if "WindowCenter" in copy:
        # The window is on rescaled values x = slope * v + intercept, of which the copy has the mirror image.
        slope, intercept = float(copy.get("RescaleSlope", 1)), float(copy.get("RescaleIntercept", 0))
        copy.WindowCenter = slope * mirror + 2 * intercept + 1 - float(copy.WindowCenter)
    return _identified(copy)


def stored_as(dataset: Dataset, transfer_syntax_uid: str, **options: Any) -> Dataset:
    """Return a copy of the same image in another transfer syntax, as read from a file.

    The SOP Instance UID stays, as for an image that an archive keeps compressed.

    Parameters
    ----------
    dataset
        An uncompressed image in little endian.
    transfer_syntax_uid
        Any native syntax, and every syntax that pydicom finds an encoder for.
    **options
        For pydicom's encoder; JPEG 2000 asks for ``j2k_psnr=[60]`` or the like.

    Raises
    ------
    RuntimeError
        From pydicom, when no encoder for the syntax is installed.
    """
    copy = deepcopy(dataset)
    syntax = UID(transfer_syntax_uid)
    if syntax.is_encapsulated:
        copy.compress(syntax, generate_instance_uid=False, **options)
    else:
        copy.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian and copy.BitsAllocated == 16:
            copy.PixelData = np.frombuffer(copy.PixelData, "<u2").astype(">u2").tobytes()
    file = BytesIO()
    dcmwrite(file, copy, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def write_study(folder: Path, datasets: Iterable[Dataset] | None = None) -> list[Path]:
    """Write data sets as ``0.dcm``, ``1.dcm``, ... into `folder` and return their paths.

    Without data sets: one study of a postero-anterior image and one that says it is lateral.
    """
    if datasets is None:
        datasets = radiograph(), _lateral()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets):
        path = folder / f"{number}.dcm"
        dcmwrite(path, dataset, enforce_file_format=True)
        paths.append(path)
    return paths


def _lateral() -> Dataset:
    view = _code("399173006", "SCT", "left lateral")
    view.ViewModifierCodeSequence = []
    return radiograph(ViewPosition="LL", ViewCodeSequence=[view], PatientOrientation=["A", "F"], InstanceNumber="2")


def _uid(*names: object) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, repr(names)).int}"


def _set(dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    for keyword, value in attributes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)


def _identified(dataset: Dataset) -> Dataset:
    """Give `dataset` the SOP Instance UID of its content, and file meta information to match."""
    dataset.SOPInstanceUID = ""
    content = BytesIO()
    dcmwrite(content, dataset, little_endian=True, implicit_vr=False)
    dataset.SOPInstanceUID = _uid("instance", hashlib.sha256(content.getvalue()).hexdigest())
    return _with_file_meta(dataset)


def _with_file_meta(dataset: Dataset) -> Dataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DigitalXRayImageStorageForPresentation)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", _uid("none"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_CLASS_UID
    dataset.file_meta = meta
    return dataset


def _native_copy(dataset: Dataset) -> Dataset:
    copy = deepcopy(dataset)
    if copy.file_meta.TransferSyntaxUID.is_encapsulated:
        copy.decompress(generate_instance_uid=False)
    return copy


def _opposite(direction: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in direction)


def _store(dataset: Dataset, values: Array, overlay_bits: bool = False) -> None:
    """Set Pixel Data from integer `values`, in little endian."""
    stored, high = dataset.BitsStored, dataset.HighBit
    words = (values & (2**stored - 1)) << (high + 1 - stored)
    if overlay_bits:
        above = 2**dataset.BitsAllocated - 2 ** (high + 1)
        words[::2, ::3] |= above
    pixels = words.astype(f"<u{dataset.BitsAllocated // 8}").tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _describe_study(dataset: Dataset, study: str) -> None:
    dataset.PatientName = "Synthetic^Chest"
    dataset.PatientID = "SYNTHETIC"
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = _uid("study", study)
    dataset.SeriesInstanceUID = _uid("series", study)
    dataset.StudyID = dataset.AccessionNumber = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101112"
    dataset.StudyDescription = "Chest PA"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = "1"
    dataset.Manufacturer = "Synthetic"
    dataset.ManufacturerModelName = "cxr_dicom.synthetic"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _describe_cr(dataset: Dataset, photometric: Photometric) -> None:
    del photometric  # CR says nothing more about it
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.Modality = "CR"
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [0.9, 0.9]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]


def _describe_dx(dataset: Dataset, photometric: Photometric) -> None:
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality = "DX"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = [_code("816094009", "SCT", "Chest")]
    view = _code("272479007", "SCT", "postero-anterior")
    view.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [view]
    dataset.PositionerType = ""
    dataset.DetectorType = "SCINTILLATOR"
    dataset.DetectorConfiguration = "AREA"
    dataset.ImagerPixelSpacing = [0.9, 0.9]
    dataset.PixelSpacing = [0.9, 0.9]
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    dataset.AcquisitionContextSequence = []
