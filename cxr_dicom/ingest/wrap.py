r"""PNG and JPEG radiographs as DICOM: a picture becomes a DX image that says how it was made.

A picture has no patient, no spacing and no orientation, but a DX image must state them (PS3.3 A.26).
What is made up here is named in Derivation Description, and selection knows it by the Manufacturer:
such an image is measured in pixels, and its view and part of the body are unknown unless a table states them.
Equal pictures become equal instances anywhere: every UID follows from the bytes of the file, and
neither its name nor a date is in any attribute.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from cxr_dicom.config import SelectSettings
from cxr_dicom.dicom import codestream
from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.files import PARSING_ERRORS
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from cxr_dicom.system.digest import sha256

MOST_BYTES = 1 << 29  # of a picture; 50 megapixels of 16 bits in four channels are fewer

Grey = NDArray[np.uint8] | NDArray[np.uint16]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_BIT_DEPTH_AT = 24  # in IHDR, which comes first
_MAX_SIDE = 2**16 - 1  # of Rows and Columns
_STRIP = 64  # rows of a picture that are looked at together
_DAMAGED = (*PARSING_ERRORS, OSError, SyntaxError)  # what Pillow was seen to raise

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "wrap.cxr-dicom")
_IMPLEMENTATION_CLASS_UID = UID("2.25.301937261843220713951176380269484519033")

_ORIENTATIONS = {  # by View Position: how such a radiograph hangs
    "": ["L", "F"],
    "PA": ["L", "F"],
    "AP": ["L", "F"],
    "LL": ["P", "F"],
    "RL": ["P", "F"],
}
_SEXES = ("M", "F", "O")


def is_picture(path: Path) -> bool:
    """Whether a file starts like a PNG or JPEG, and is not a DICOM file with such a preamble."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start.startswith((_PNG_SIGNATURE, _JPEG_SIGNATURE)) and start[128:] != b"DICM"


def wrap(
    path: Path, attributes: Mapping[str, str | None] | None = None, *, max_pixels: int = SelectSettings().max_pixels
) -> Dataset:
    """Make a DX image for presentation from a picture of a radiograph.

    Parameters
    ----------
    path
        PNG or JPEG: grey with 8 or 16 bits, or 8-bit colour whose channels are equal. What is
        transparent becomes black, and the orientation of EXIF is applied. Bright is dense.
    attributes
        What is known besides; empty values are not stated. They are no part of the identity.
        ``patient_age``: years, or an age as DICOM writes it ("045Y", "006M");
        ``patient_sex``: M, F or O; ``view_position``: PA, AP, LL or RL.
    max_pixels
        Rows x Columns above which the picture is not decoded.

    Returns
    -------
    Dataset
        Complete, with file meta information, Explicit VR Little Endian, MONOCHROME2.

    Raises
    ------
    ImageError
        ``UNREADABLE`` for what is no picture; ``MATRIX_TOO_LARGE``, ``MULTI_FRAME``, ``NOT_GRAYSCALE``,
        ``CORRUPT_PIXEL_DATA``; ``INVALID_ATTRIBUTES`` for an attribute that is not understood.
    """
    known = _understood(attributes or {})
    picture = _read(path, max_pixels)
    dataset = Dataset()
    _set_identity(dataset, picture.sha256)
    _set_patient(dataset, known)
    _set_acquisition(dataset, known.get("view_position", ""))
    _set_provenance(dataset, picture)
    _set_pixels(dataset, picture.pixels)
    return dataset


# --- picture -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Picture:
    format: str  # "PNG" or "JPEG"
    sha256: str  # of the file
    size: int  # of the file, in bytes
    pixels: Grey  # (rows, columns)


def _read(path: Path, max_pixels: int) -> _Picture:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise ImageError(Reason.UNREADABLE, f"expected a picture of at most {MOST_BYTES >> 20} MB, found more")
            content = sha256(file)
            size = file.tell()
            file.seek(_PNG_BIT_DEPTH_AT)
            bit_depth = file.read(1)
            file.seek(0)
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                _expect_bounded(image.size, max_pixels)
                _expect_one_frame(image)
                if image.format != "PNG":
                    _expect_few_scans(path)
                is_deep = image.format == "PNG" and bit_depth == b"\x10"
                pixels = _decoded(image, is_deep)
                return _Picture(
                    format="PNG" if image.format == "PNG" else "JPEG", sha256=content, size=size, pixels=pixels
                )
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.MATRIX_TOO_LARGE, f"expected {max_pixels} pixels or fewer, found far more") from error
    except _DAMAGED as error:
        expected = "expected a whole PNG or JPEG picture"
        raise ImageError(Reason.UNREADABLE, f"{expected}, got {type(error).__name__}") from error


def _expect_bounded(size: tuple[int, int], max_pixels: int) -> None:
    columns, rows = size
    if rows * columns > max_pixels or max(size) > _MAX_SIDE:
        expected = f"{max_pixels} pixels or fewer (select.max_pixels) and sides up to {_MAX_SIDE}"
        raise ImageError(Reason.MATRIX_TOO_LARGE, f"expected {expected}, found {rows} x {columns}")


def _expect_one_frame(image: Image.Image) -> None:
    if (frames := getattr(image, "n_frames", 1)) != 1:
        raise ImageError(Reason.MULTI_FRAME, f"expected one picture, found {frames}")


def _expect_few_scans(path: Path) -> None:
    try:
        codestream.expect_few_scans(path.read_bytes())
    except ValueError as error:
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, str(error)) from error


def _decoded(image: Image.Image, is_deep: bool) -> Grey:
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except _DAMAGED as error:
        found = f"{image.width} x {image.height} pixels of {image.format}"
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"expected {found}, got {type(error).__name__}") from error
    if image.mode.startswith("I"):  # 16 bits; "I;16" since Pillow 11
        return np.asarray(image).astype(np.uint16)
    if is_deep or image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        found = f"16-bit {image.mode}" if is_deep else image.mode
        expected = "expected 8- or 16-bit grey, or 8-bit RGB with equal channels"
        raise ImageError(Reason.NOT_GRAYSCALE, f"{expected}, found {found}")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return _grey_of_colour(image)


def _grey_of_colour(image: Image.Image) -> NDArray[np.uint8]:
    """Take the one grey of equal channels, on black; by strips, for what is reckoned with needs 20 bytes of a pixel."""
    grey = np.empty((image.height, image.width), np.uint8)
    colourful = 0
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        rgba = np.asarray(strip.convert("RGBA"))
        red, alpha = rgba[..., 0], rgba[..., 3]
        colourful += int(np.count_nonzero((rgba[..., :3] != red[..., np.newaxis]).any(axis=-1) & (alpha > 0)))
        grey[top : top + _STRIP] = np.rint(red * (alpha / np.float32(255)))
    if colourful:
        detail = f"expected equal channels, found colour in {colourful / grey.size:.1%} of the pixels"
        raise ImageError(Reason.NOT_GRAYSCALE, detail)
    return grey


# --- attributes ----------------------------------------------------------------------------------


def _understood(attributes: Mapping[str, str | None]) -> dict[str, str]:
    """Check the attributes; an unknown key is a mistake of the caller, a bad value one of the table."""
    checks = {"patient_age": _age, "patient_sex": _sex, "view_position": _view_position}
    return {name: checks[name](value.strip().upper()) for name, value in attributes.items() if value and value.strip()}


def _age(text: str) -> str:
    if re.fullmatch(r"\d{3}[DWMY]", text):
        return text
    if years := re.fullmatch(r"(\d{1,3})(\.0*)?", text):
        return f"{int(years[1]):03}Y"
    raise ImageError(Reason.INVALID_ATTRIBUTES, "patient_age: expected whole years, or an age such as 045Y or 006M")


def _sex(text: str) -> str:
    return _one_of(text, "patient_sex", _SEXES)


def _view_position(text: str) -> str:
    return _one_of(text, "view_position", [view for view in _ORIENTATIONS if view])


def _one_of(text: str, name: str, accepted: Collection[str]) -> str:
    if text not in accepted:
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"{name}: expected one of {', '.join(accepted)}")
    return text


# --- data set ------------------------------------------------------------------------------------


def _set_identity(dataset: Dataset, sha256: str) -> None:
    study, series, instance = (
        f"2.25.{uuid.uuid5(_NAMESPACE, f'{level} {sha256}').int}" for level in ("study", "series", "instance")
    )
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, UID(instance)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.PatientID = f"PICTURE-{sha256[:32].upper()}"
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    meta = dataset.file_meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = _IMPLEMENTATION_CLASS_UID, "CXR_DICOM_WRAP"


def _set_patient(dataset: Dataset, known: Mapping[str, str]) -> None:
    dataset.PatientName = dataset.PatientBirthDate = dataset.ReferringPhysicianName = ""
    dataset.PatientSex = known.get("patient_sex", "")
    if "patient_age" in known:
        dataset.PatientAge = known["patient_age"]


def _set_acquisition(dataset: Dataset, view_position: str) -> None:
    """State what a DX image must state of how it was taken (PS3.3 C.8.11)."""
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.PatientOrientation = _ORIENTATIONS[view_position]
    if view_position:
        dataset.ViewPosition = view_position
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = []
    dataset.AcquisitionContextSequence = []
    dataset.PositionerType = dataset.DetectorType = ""
    dataset.ImagerPixelSpacing = [1, 1]
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1


def _set_provenance(dataset: Dataset, picture: _Picture) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", ""]
    dataset.ConversionType = "WSD"
    dataset.Manufacturer = dataset.ManufacturerModelName = WRAPPER
    dataset.BurnedInAnnotation = "YES"  # nobody looked: the careful answer
    dataset.DerivationDescription = (
        f"Made by {WRAPPER} from a {picture.format} picture with SHA-256 {picture.sha256}. "
        "Made up, because a DX image must state it: patient, study and series; Imager Pixel Spacing "
        "(the spacing is not known); Patient Orientation (taken as it usually hangs); "
        "Pixel Intensity Relationship; Burned In Annotation (not looked for)."
    )
    dataset.ContributingEquipmentSequence = [_wrapper()]
    dataset.LossyImageCompression = "00"
    if picture.format == "JPEG":
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{picture.pixels.nbytes / picture.size:.2f}"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"


def _wrapper() -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109103", "DCM", "Modifying Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = WRAPPER
    item.ContributionDescription = "Wrapped a picture as DICOM"
    return item


def _set_pixels(dataset: Dataset, pixels: Grey) -> None:
    """Show the picture as any viewer of pictures does: the whole range, nothing stretched."""
    bits = 8 * pixels.itemsize
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits  # LINEAR unless another function is told
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
