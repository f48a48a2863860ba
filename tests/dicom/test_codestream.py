"""Compressed pixels: where their bits lie, against DCMTK; and what is cut off, whatever the decoders make up."""

import subprocess

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom import codestream, pixels
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from tests.service_helpers import tool

XRV = PixelSettings(intensity="xrv")


def chest(**parameters):
    return synthetic.radiograph(96, 80, **parameters)


@pytest.fixture
def by_dcmtk(tmp_path, stored):
    """Compress with DCMTK; return the data set."""

    def compress(dataset, *options, program="dcmcjpeg"):
        path = tmp_path / f"by-dcmtk-{len(list(tmp_path.iterdir()))}"
        subprocess.run([tool(program), *options, stored(dataset), path], check=True)
        return dcmread(path)

    return compress


@pytest.fixture
def rendered(tmp_path, stored):
    """The picture that DCMTK shows, bright where its numbers are high."""

    def render(dataset, program):
        picture = tmp_path / "rendered.pgm"
        subprocess.run([tool(program), "+Wm", "+op", stored(dataset), picture], check=True, capture_output=True)
        return np.asarray(Image.open(picture)).astype(float)

    return render


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def frame_of(dataset):
    return get_frame(dataset.PixelData, 0, number_of_frames=1).rstrip(b"\0")


def with_frame(dataset, frame):
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return dataset


# --- where bits lie ------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "high_bit"), [(12, 15), (10, 15), (12, 13), (12, 11)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless_jpeg_looks_as_in_dcmtk_wherever_the_header_puts_its_bits(
    selected, by_dcmtk, rendered, bits, high_bit, photometric
):
    dataset = by_dcmtk(chest(bits_stored=bits, high_bit=high_bit, photometric=photometric), "+e1")
    radiograph = read(selected(dataset), XRV)
    assert correlation(radiograph.pixels, rendered(dataset, "dcmj2pnm")) >= 0.999
    contradicts = any("contradict the code stream" in warning for warning in radiograph.warnings)
    assert contradicts is (high_bit != bits - 1)


@pytest.mark.parametrize("bits", [10, 14])
def test_jpeg_ls_of_fewer_bits_than_stored_uses_those_of_the_stream(selected, rendered, bits):
    dataset = synthetic.stored_as(chest(bits_stored=bits), JPEGLSLossless)
    expected = read(selected(dataset), XRV).pixels
    dataset.BitsStored, dataset.HighBit = 16, 15
    radiograph = read(selected(dataset), XRV)
    np.testing.assert_array_equal(radiograph.pixels, expected)
    assert correlation(radiograph.pixels, rendered(dataset, "dcml2pnm")) >= 0.999
    assert [f"{bits} bits" in warning for warning in radiograph.warnings] == [True]


@pytest.mark.parametrize("bits", [10, 14])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_2000_of_fewer_bits_and_another_sign_than_stated(selected, bits, signed):
    original = chest(bits_stored=bits, signed=signed)
    expected = read(selected(original), XRV).pixels
    dataset = synthetic.stored_as(original, JPEG2000Lossless)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, int(not signed)
    radiograph = read(selected(dataset), XRV)
    np.testing.assert_array_equal(radiograph.pixels, expected)
    assert [f"{bits} bits, {'signed' if signed else 'unsigned'}" in text for text in radiograph.warnings] == [True]


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_stream_of_more_bits_whose_values_need_no_more_has_the_range_of_the_header(selected, syntax):
    original = chest(bits_stored=12)
    expected = read(selected(original), XRV).pixels
    wide = chest(bits_stored=12)
    wide.BitsStored, wide.HighBit = 16, 15
    dataset = synthetic.stored_as(wide, syntax)
    dataset.BitsStored, dataset.HighBit = 12, 11
    np.testing.assert_array_equal(read(selected(dataset), XRV).pixels, expected)


# --- what is cut off -----------------------------------------------------------------------------

EIGHT = {"bits_allocated": 8, "bits_stored": 8}
COMPRESSIONS = {
    "baseline": (EIGHT, ("+eb",), "dcmcjpeg"),
    "extended": ({}, ("+ee",), "dcmcjpeg"),
    "lossless": ({}, ("+e1",), "dcmcjpeg"),
    "lossless, any predictor": ({}, ("+el",), "dcmcjpeg"),
    "JPEG-LS": ({}, (), "dcmcjpls"),
}


def noise(size):
    return np.random.default_rng(1).integers(0, 255, size, np.uint8).tobytes()  # no marker: 255 is left out


DAMAGES = {
    "half": lambda frame: frame[: len(frame) // 2],
    "half, then the end marker": lambda frame: frame[: len(frame) // 2].rstrip(b"\xff") + b"\xff\xd9",
    "nine tenths": lambda frame: frame[: len(frame) * 9 // 10],
    "a tail of zeros": lambda frame: frame[: len(frame) // 2] + b"\0" * (len(frame) // 2),
    "a tail of zeros, then the end marker": lambda frame: frame[: len(frame) // 2] + b"\0" * 500 + b"\xff\xd9",
    "a tail of noise": lambda frame: frame[: len(frame) // 2] + noise(len(frame) // 2) + b"\xff\xd9",
}


@pytest.fixture(params=COMPRESSIONS.values(), ids=COMPRESSIONS)
def compressed(request, by_dcmtk):
    attributes, options, program = request.param
    return by_dcmtk(chest(**attributes), *options, program=program)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_stream_that_lacks_something_is_corrupt(selected, compressed, damage):
    image = selected(with_frame(compressed, damage(frame_of(compressed))))
    with pytest.raises(ImageError) as refused:
        read(image, XRV)
    assert refused.value.reason is Reason.CORRUPT_PIXEL_DATA


def test_a_whole_stream_is_read_and_zeros_after_its_end_change_nothing(selected, compressed):
    whole = read(selected(compressed), XRV)
    assert whole.warnings == ()
    padded = read(selected(with_frame(compressed, frame_of(compressed) + b"\0" * 3000)), XRV)
    assert padded.warnings == ()
    np.testing.assert_array_equal(padded.pixels, whole.pixels)


def test_only_the_end_marker_is_missing(selected, compressed):
    whole = read(selected(compressed), XRV)
    without = read(selected(with_frame(compressed, frame_of(compressed)[:-2])), XRV)
    assert ["no end marker" in warning for warning in without.warnings] == [True]
    np.testing.assert_array_equal(without.pixels, whole.pixels)


@pytest.mark.parametrize("level", [0, 4095])
def test_a_black_or_white_lower_half_is_not_taken_for_a_missing_one(selected, by_dcmtk, level):
    dataset = chest()
    pixels = np.array(dataset.pixel_array)
    pixels[40:] = level
    dataset.PixelData = pixels.tobytes()
    for options in (("+e1",), ("+ee",)):
        assert read(selected(by_dcmtk(dataset, *options)), XRV).pixels.shape == (96, 80)


@pytest.mark.parametrize(("bits", "option"), [(12, "+ee"), (8, "+eb")])
def test_a_scan_that_says_it_ends_at_coefficient_0_is_decoded_as_in_dcmtk(selected, by_dcmtk, rendered, bits, option):
    dataset = by_dcmtk(chest(bits_stored=bits, **({"bits_allocated": 8} if bits == 8 else {})), option)
    expected = read(selected(dataset), XRV).pixels
    frame = bytearray(frame_of(dataset))
    end = (
        codestream.read(bytes(frame), dataset.file_meta.TransferSyntaxUID).scan + 4
    )  # one component: Ns, Cs, Td and Ta, Ss, Se
    assert frame[end] == 63
    frame[end] = 0
    dataset = with_frame(dataset, bytes(frame))
    np.testing.assert_array_equal(read(selected(dataset), XRV).pixels, expected)
    assert correlation(expected, rendered(dataset, "dcmj2pnm")) >= 0.999


def test_a_header_that_is_right_about_the_sign_counts(real):
    """The one public file whose code stream says unsigned and means signed: a CT, air around the patient."""
    path = real("J2K_pixelrep_mismatch.dcm")
    dataset = dcmread(path)
    decoded = pixels._decode(dataset, (dataset.Rows, dataset.Columns))
    np.testing.assert_array_equal(decoded.values[decoded.words], dataset.pixel_array)
