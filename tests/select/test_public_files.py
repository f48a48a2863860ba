"""Every file of pydicom's and pydicom-data's test sets: its outcome, looked at and pinned; its pixels, against pydicom.

Most are no radiographs. Their pixels are decoded all the same, as those of an image that was selected would be.
"""

import subprocess
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_files

from cxr_dicom.config import PixelSettings, SelectSettings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import ChestImage, Reason, Spacing, SpacingSource, StoredInstance
from cxr_dicom.records.plane import Orientation
from cxr_dicom.select import select
from tests.service_helpers import tool

OUTCOMES = {
    "processed": "RG1_J2KI RG1_J2KR RG1_UNCI RG1_UNCR",  # the chest, in four transfer syntaxes
    Reason.NOT_CHEST: "RG3_J2KI RG3_J2KR RG3_UNCI RG3_UNCR",  # a leg
    Reason.INVALID_ATTRIBUTES: (  # files without UIDs
        "JPEGLSNearLossless_08 JPEGLSNearLossless_16 SC_rgb_jls_lossy_line SC_rgb_jls_lossy_sample UN_sequence"
        " bad_sequence empty_charset_LEI meta_missing_tsyntax nested_priv_SQ no_meta_group_length priv_SQ"
    ),
    Reason.UNREADABLE: "MR_truncated emri_small_jpeg_2k_lossless_too_short rtplan_truncated",
    Reason.NOT_DICOM: "README crayons no_meta rtplan rtstruct test1 test_PN zipMR",
}
WRONG_SOP_CLASS = 123  # CT, MR, ultrasound, plans, reports, waveforms, captures of other modalities
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter",  # its code stream says 3,722,445,056 columns; pydicom refuses it, too
    "MR_truncated",
}
LARGE = 1 << 20  # bytes; the large ones are read elsewhere
ONLY_DCMTK = {"JPEG-lossy"}  # scan headers that end at 0: pydicom's decoders refuse them


def files():
    return sorted({path for path in map(Path, get_testdata_files("*")) if path.is_file() and path.name != "DICOMDIR"})


def outcome(path):
    studies, skipped = scan([path])
    for study in studies:
        selection = select(study, SelectSettings())
        skipped += selection.skipped
        for image in selection.images:
            read(image, PixelSettings())
            return "processed"
    (only,) = skipped
    return only.reason


def test_every_file_has_the_outcome_that_it_should_have():
    found = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files():
            found[outcome(path)].append(path.stem)
    assert len(found.pop(Reason.WRONG_SOP_CLASS)) == WRONG_SOP_CLASS
    assert {reason: Counter(names) for reason, names in found.items()} == {
        reason: Counter(names.split()) for reason, names in OUTCOMES.items()
    }


def grey_images():
    """Every small single frame of grey pixels whose header says what a decoder must know."""
    for path in files():
        if path.stat().st_size > LARGE:
            continue
        try:
            header = dcmread(path, stop_before_pixels=True)
        except Exception:  # no DICOM, or none that pydicom reads
            continue
        stated = [str(header.get(keyword, "")) for keyword in ("NumberOfFrames", "SamplesPerPixel", "BitsAllocated")]
        is_grey = str(header.get("PhotometricInterpretation")).startswith("MONOCHROME")
        if is_grey and stated[0] in ("", "1") and stated[1] == "1" and stated[2] in ("8", "16") and "HighBit" in header:
            yield path, header


def pixels(path, header):
    uids = dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid"), "1")
    image = ChestImage(
        instance=StoredInstance(path=path, **uids),
        header=header,
        view="",
        orientation=Orientation(),
        spacing=Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE),
    )
    return read(image, PixelSettings(intensity="xrv")).pixels


def shown_by_dcmtk(path, folder):
    picture = folder / "picture.pgm"
    subprocess.run([tool("dcmj2pnm"), "+Wm", "+op", path, picture], check=True, capture_output=True)
    return np.asarray(Image.open(picture)).astype(float)


@pytest.mark.filterwarnings("ignore")
def test_every_grey_picture_is_that_of_pydicom_or_dcmtk(tmp_path):
    refused, compared = set(), 0
    for path, header in grey_images():
        try:
            found = pixels(path, header)
        except ImageError:
            refused.add(path.stem)
            continue
        other = shown_by_dcmtk(path, tmp_path) if path.stem in ONLY_DCMTK else dcmread(path).pixel_array
        correlation = np.corrcoef(other.ravel().astype(float), found.ravel())[0, 1]
        turned = -1 if header.PhotometricInterpretation == "MONOCHROME1" and path.stem not in ONLY_DCMTK else 1
        assert turned * correlation >= 0.999, path.name
        compared += 1
    assert refused == REFUSED
    assert compared >= 25
