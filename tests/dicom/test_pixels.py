"""Stored pixel data to model input: the same picture however it is stored."""

import hashlib
import itertools
import struct
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.records import ChestImage, Reason, Spacing, SpacingSource, StoredInstance
from cxr_dicom.records.plane import Orientation

XRV, VOI = PixelSettings(intensity="xrv"), PixelSettings(intensity="voi")
LOSSLESS = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]
TURNS = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c) for t, r, c in itertools.product((False, True), repeat=3)
]


@pytest.fixture
def pixels(selected):
    """Select and read one data set or file."""

    def read_one(source, settings=XRV):
        return read(selected(source), settings).pixels

    return read_one


def chest(rows=65, columns=48, **parameters):
    return synthetic.radiograph(rows, columns, **parameters)


def as_xrv(path):
    from torchxrayvision.utils import read_xray_dcm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_xray_dcm(path)


def unselected(path):
    """An image that selection did not look at: pydicom's test files are no chests."""
    header = dcmread(path, stop_before_pixels=True)
    return ChestImage(
        instance=StoredInstance(
            path=path, study_instance_uid="1", series_instance_uid="1", sop_instance_uid="1", sop_class_uid="1"
        ),
        header=header,
        view="",
        orientation=Orientation(),
        spacing=Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE),
    )


# --- as TorchXRayVision --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_UNCI.dcm", "RG1_J2KR.dcm", "RG1_J2KI.dcm"])
def test_the_real_chest_is_read_as_torchxrayvision_reads_it(pixels, real, name):
    found = pixels(real(name))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, as_xrv(real(name)))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("bits_allocated", "bits_stored"), [(8, 8), (16, 10), (16, 12), (16, 15), (16, 16)])
@pytest.mark.parametrize("overlay_bits", [False, True])
def test_synthetic_chests_are_read_as_torchxrayvision_reads_them(
    selected, stored, photometric, bits_allocated, bits_stored, overlay_bits
):
    path = stored(
        chest(
            photometric=photometric, bits_allocated=bits_allocated, bits_stored=bits_stored, overlay_bits=overlay_bits
        )
    )
    np.testing.assert_array_equal(read(selected(path), XRV).pixels, as_xrv(path))


@pytest.mark.parametrize(
    "name",
    [
        "JPGLosslessP14SV1_1s_1f_8b.dcm",  # JPEG lossless, selection value 1
        "JPEGLSNearLossless_16.dcm",
        "JPEGLSNearLossless_08.dcm",
        "JPGExtended.dcm",  # JPEG extended, 12 bits
        "RG3_J2KI.dcm",
    ],
)
def test_real_files_in_other_syntaxes_are_read_as_torchxrayvision_reads_them(real, name):
    np.testing.assert_array_equal(read(unselected(real(name)), XRV).pixels, as_xrv(real(name)))


def test_the_range_is_that_of_the_stored_bits(pixels):
    values = chest(bits_stored=12)
    stored_values = values.pixel_array.astype(float)
    np.testing.assert_allclose(pixels(values), stored_values / 4095 * 2048 - 1024, atol=1e-3)


# --- however it is stored ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [XRV, VOI], ids=["xrv", "voi"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
def test_lossless_transfer_syntaxes_give_identical_pixels(pixels, syntax, signed, settings):
    original = chest(modality="CR", signed=signed)
    np.testing.assert_array_equal(pixels(synthetic.stored_as(original, syntax), settings), pixels(original, settings))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_eight_bits_and_an_odd_size_are_decoded_too(pixels, syntax):
    original = chest(65, 33, bits_allocated=8, bits_stored=8)
    np.testing.assert_array_equal(pixels(synthetic.stored_as(original, syntax)), pixels(original))


@pytest.mark.parametrize(
    ("syntax", "options"), [(JPEG2000, {"j2k_psnr": [60]}), (JPEGLSNearLossless, {"jls_error": 3})]
)
def test_lossy_transfer_syntaxes_give_close_pixels(pixels, syntax, options):
    original = chest()
    found, expected = pixels(synthetic.stored_as(original, syntax, **options)), pixels(original)
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=20)


def test_jpeg_baseline_is_decoded(pixels):
    original = chest(bits_allocated=8, bits_stored=8)
    jpeg = BytesIO()
    Image.fromarray(original.pixel_array).save(jpeg, "JPEG", quality=95)
    copy = chest(bits_allocated=8, bits_stored=8)
    copy.PixelData = encapsulate([jpeg.getvalue()])
    copy["PixelData"].is_undefined_length = True
    copy.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert np.abs(pixels(copy) - pixels(original)).mean() < 20


@pytest.mark.parametrize("settings", [XRV, VOI], ids=["xrv", "voi"])
@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_inverted(pixels, signed, settings):
    original = chest(
        modality="CR", photometric="MONOCHROME1", signed=signed, WindowCenter=0 if signed else 2000, WindowWidth=3000
    )
    np.testing.assert_allclose(pixels(synthetic.monochrome2(original), settings), pixels(original, settings), atol=1e-3)


def test_monochrome1_and_2_of_the_real_chest_are_identical(pixels, real):
    original = dcmread(real("RG1_UNCR.dcm"))
    np.testing.assert_array_equal(pixels(synthetic.monochrome2(original)), pixels(original))


def test_bright_is_dense_whatever_the_photometric_interpretation(pixels):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        picture = pixels(chest(photometric=photometric))
        assert picture[0, 0] < picture[32, 24], "air in the corner, spine in the middle"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [9, 11, 15])
def test_bits_beyond_the_stored_ones_are_ignored(pixels, signed, high_bit):
    plain = chest(modality="CR", bits_stored=10, signed=signed)
    covered = chest(modality="CR", bits_stored=10, signed=signed, high_bit=high_bit, overlay_bits=True)
    np.testing.assert_array_equal(pixels(covered), pixels(plain))


def test_signed_pixels_use_the_same_range(pixels):
    np.testing.assert_array_equal(pixels(chest(modality="CR", signed=True)), pixels(chest(modality="CR")))


def test_a_negative_slope_inverts_and_a_positive_one_changes_nothing(pixels):
    plain = pixels(chest(modality="CR"))
    rescaled = pixels(chest(modality="CR", RescaleSlope=2, RescaleIntercept=-100, RescaleType="US"))
    inverted = pixels(chest(modality="CR", RescaleSlope=-1, RescaleIntercept=4095, RescaleType="US"))
    np.testing.assert_array_equal(rescaled, plain)
    np.testing.assert_allclose(inverted, -plain, atol=1e-3)


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("settings", [XRV, VOI], ids=["xrv", "voi"])
def test_pixels_come_in_the_standard_view(pixels, turn, settings):
    original = chest()
    found = pixels(synthetic.turned(original, turn), settings)
    np.testing.assert_array_equal(found, pixels(original, settings))
    assert found.flags.c_contiguous
    assert found.dtype == np.float32


@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_meta_information_is_read(tmp_path, pixels, implicit):
    original = chest()
    bare = chest()
    del bare.file_meta
    dcmwrite(tmp_path / "bare", bare, implicit_vr=implicit, little_endian=True)
    np.testing.assert_array_equal(pixels(tmp_path / "bare"), pixels(original))


# --- lookup tables and windows -------------------------------------------------------------------


def table(first, entries, bits, as_bytes=False):
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item.LUTData = struct.pack(f"<{len(entries)}H", *entries) if as_bytes else list(entries)
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "OW" if as_bytes else "US"
    item.ModalityLUTType = "US"
    return Sequence([item])


def expected_of(fraction):
    return (2 * np.asarray(fraction) - 1) * 1024


def modality(entries, bits, as_bytes=False, **attributes):
    dataset = chest(modality="CR", ModalityLUTSequence=None, bits_stored=10, **attributes)
    dataset.ModalityLUTSequence = table(0, entries, bits, as_bytes)
    dataset["ModalityLUTSequence"][0].LUTExplanation = "test"
    return dataset


RISING = {"to 1023": np.arange(1024), "curved": np.arange(1024) ** 2 // 1024, "to 65535": np.arange(1024) * 64}


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("entries", RISING.values(), ids=RISING)
def test_a_modality_lut_of_16_bits_gives_what_torchxrayvision_gives(stored, pixels, entries, as_bytes, photometric):
    path = stored(modality(entries.tolist(), 16, as_bytes, photometric=photometric))
    np.testing.assert_array_equal(pixels(path), as_xrv(path))


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_a_falling_modality_lut_turns_bright_and_dark(pixels, bits):
    entries = np.linspace(0, 2**bits - 1, 1024).astype(int)[::-1]
    dataset = modality(entries.tolist(), bits)
    np.testing.assert_allclose(pixels(dataset), expected_of(1 - dataset.pixel_array / 1023), atol=1e-3)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_modality_lut_comes_before_the_window(pixels, bits, as_bytes):
    entries = np.linspace(0, 2**bits - 1, 1024).astype(int)[::-1]
    dataset = modality(entries.tolist(), bits, as_bytes, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    expected = expected_of(entries[dataset.pixel_array] / (2**bits - 1))
    np.testing.assert_allclose(pixels(dataset, VOI), expected, atol=1e-2)


@pytest.mark.parametrize("top", [1023, 4095])
def test_a_voi_lut_of_16_bits_whose_entries_end_early_is_not_dark(pixels, top):
    dataset = chest(modality="CR", VOILUTSequence=None)
    entries = np.linspace(0, top, 4096).astype(int)
    dataset.VOILUTSequence = table(0, entries.tolist(), 16)
    np.testing.assert_allclose(pixels(dataset, VOI), expected_of(entries[dataset.pixel_array] / top), atol=1e-2)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut_is_applied_where_asked(pixels, photometric, bits):
    dataset = chest(modality="CR", photometric=photometric)
    entries = (np.linspace(0, 1, 2000) ** 2 * (2**bits - 1)).astype(int)
    dataset.VOILUTSequence = table(1000, entries.tolist(), bits)
    fraction = entries[np.clip(dataset.pixel_array.astype(int) - 1000, 0, 1999)] / (2**bits - 1)
    expected = expected_of(1 - fraction if photometric == "MONOCHROME1" else fraction)
    np.testing.assert_allclose(pixels(dataset, VOI), expected, atol=1e-2)
    assert not np.allclose(pixels(dataset, XRV), expected)


def test_a_table_of_65536_entries_says_zero(pixels):
    dataset = chest(modality="CR", bits_stored=16)
    dataset.VOILUTSequence = table(0, list(range(2**16)), 16)
    np.testing.assert_allclose(pixels(dataset, VOI), pixels(dataset, XRV), atol=1e-3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_first_window_is_applied_where_asked(pixels, photometric):
    dataset = chest(modality="CR", photometric=photometric, WindowCenter=[1500.5, 9], WindowWidth=[1001, 9])
    fraction = np.clip((dataset.pixel_array - 1500.0) / 1000 + 0.5, 0, 1)
    expected = expected_of(1 - fraction if photometric == "MONOCHROME1" else fraction)
    np.testing.assert_allclose(pixels(dataset, VOI), expected, atol=1e-3)


@pytest.mark.parametrize(("slope", "intercept"), [(2, -300), (-1, 4095)])
def test_a_window_is_on_rescaled_values(pixels, slope, intercept):
    dataset = chest(
        modality="CR",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        RescaleType="US",
        WindowCenter=1500.5,
        WindowWidth=1001,
    )
    rescaled = dataset.pixel_array.astype(float) * slope + intercept
    np.testing.assert_allclose(
        pixels(dataset, VOI), expected_of(np.clip((rescaled - 1500.0) / 1000 + 0.5, 0, 1)), atol=1e-3
    )


# PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, for values from 0 to 1
VOI_FUNCTIONS = {
    "LINEAR": lambda x, center, width: np.where(
        x <= center - 0.5 - (width - 1) / 2,
        0,
        np.where(x > center - 0.5 + (width - 1) / 2, 1, (x - (center - 0.5)) / max(width - 1, 1) + 0.5),
    ),
    "LINEAR_EXACT": lambda x, center, width: np.clip((x - center) / width + 0.5, 0, 1),
    "SIGMOID": lambda x, center, width: 1 / (1 + np.exp(-4 * (x - center) / width)),
}


@pytest.mark.parametrize("width", [1, 7, 1000])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", VOI_FUNCTIONS)
def test_a_window_is_applied_by_its_voi_lut_function(pixels, function, photometric, width):
    dataset = chest(
        modality="CR", photometric=photometric, WindowCenter=2000, WindowWidth=width, VOILUTFunction=function
    )
    fraction = VOI_FUNCTIONS[function](dataset.pixel_array.astype(float), 2000, width)
    expected = expected_of(1 - fraction if photometric == "MONOCHROME1" else fraction)
    np.testing.assert_allclose(pixels(dataset, VOI), expected, atol=1e-3)


@pytest.mark.parametrize("missing", [("WindowCenter", "WindowWidth"), ("WindowWidth",)])
def test_without_a_window_the_full_range_is_taken(pixels, missing):
    dataset = chest(modality="CR", **dict.fromkeys(missing))
    np.testing.assert_array_equal(pixels(dataset, VOI), pixels(dataset, XRV))


@pytest.mark.parametrize(
    "attributes", [{"WindowWidth": 0}, {"VOILUTFunction": "CUBIC"}, {"VOILUTSequence": [Dataset()]}]
)
def test_a_window_that_cannot_be_applied_is_refused_only_where_it_is_asked_for(selected, attributes):
    image = selected(chest(modality="CR", **attributes))
    read(image, XRV)
    with pytest.raises(ImageError) as refused:
        read(image, VOI)
    assert refused.value.reason is Reason.INVALID_ATTRIBUTES


# --- what a radiograph says of itself ------------------------------------------------------------


def test_the_digest_is_that_of_the_stored_bytes(selected):
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        dataset = synthetic.stored_as(chest(), syntax)
        assert read(selected(dataset), XRV).sha256 == hashlib.sha256(dataset.PixelData).hexdigest()


def painted(values, **parameters):
    dataset = chest(64, 64, modality="CR", **parameters)
    dataset.PixelData = np.asarray(values, "<u2").reshape(64, 64).tobytes()
    return dataset


def test_a_low_dynamic_range_is_a_warning(selected):
    few = painted(np.arange(64 * 64) % 40 * 100)
    (warning,) = read(selected(few), XRV).warnings
    assert "40 grey levels" in warning
    dark = painted(np.arange(64 * 64) % 100)
    (warning,) = read(selected(dark), XRV).warnings
    assert "2.4%" in warning
    assert read(selected(painted(np.arange(64 * 64))), XRV).warnings == ()
    assert len(read(selected(painted(np.zeros(64 * 64))), XRV).warnings) == 2


def test_the_real_chest_has_no_warning(selected, real):
    assert read(selected(real("RG1_UNCR.dcm")), XRV).warnings == ()
