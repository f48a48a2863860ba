"""Pictures become DX images: what is kept, what is made up, what is refused, and what comes out of the pipeline."""

import hashlib
import os
import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.folder import scan
from cxr_dicom.ingest.wrap import MOST_BYTES, is_picture, wrap
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import ChestImage, Outcome, Reason, SpacingSource
from tests import validators

OFFLINE = Settings.model_validate({"models": {"names": ("offline-anatomy",), "device": "cpu"}})
GREY = np.rint(synthetic.frontal_chest(120, 97) * 255).astype(np.uint8)
DEEP = np.rint(synthetic.frontal_chest(120, 97) * 65535).astype(np.uint16)


@pytest.fixture
def saved(tmp_path):
    """Save a picture under a name that says nothing, and return its path."""
    numbers = iter(range(1000))

    def save(picture, form="PNG", **options):
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        path = tmp_path / f"Doe^Jane {next(numbers)}.dat"
        picture.save(path, form, **options)
        return path

    return save


@pytest.fixture
def errors_of(tmp_path):
    """Return what dciodvfy calls an error in a data set."""

    def validate(dataset):
        path = tmp_path / "validated.dcm"
        dataset.save_as(path, enforce_file_format=True)
        lines = validators.dciodvfy(path)
        assert any("DXImageForPresentation" in line for line in lines)
        return validators.errors(lines)

    return validate


def refused(path, *arguments, **options):
    with pytest.raises(ImageError) as caught:
        wrap(path, *arguments, **options)
    return caught.value.reason


def with_alpha(grey, alpha):
    return Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.fromarray(alpha)])


# --- pixels --------------------------------------------------------------------------------------

RGB = np.repeat(GREY[..., None], 3, axis=-1)
PALETTE = Image.fromarray(GREY).convert("P")
PICTURES = {
    "grey": Image.fromarray(GREY),
    "RGB": Image.fromarray(RGB),
    "RGBA": with_alpha(GREY, np.full_like(GREY, 255)),
    "grey with alpha": Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (97, 120), 255)]),
    "palette": PALETTE,
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_eight_bits_are_kept(picture, saved, errors_of):
    dataset = wrap(saved(picture))
    assert np.array_equal(dataset.pixel_array, GREY)
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (8, 8, 7)
    assert dataset.PhotometricInterpretation == "MONOCHROME2"
    assert not errors_of(dataset)


def test_sixteen_bits_are_kept(saved, errors_of):
    dataset = wrap(saved(DEEP))
    assert np.array_equal(dataset.pixel_array, DEEP)
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, 16, 15)
    assert not errors_of(dataset)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_decoded_and_called_lossy(mode, saved, errors_of):
    path = saved(Image.fromarray(GREY).convert(mode), "JPEG", quality=90)
    dataset = wrap(path)
    with Image.open(path) as picture:
        assert np.array_equal(dataset.pixel_array, np.asarray(picture.convert("L")))
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(dataset.LossyImageCompressionRatio) == pytest.approx(GREY.size / path.stat().st_size, abs=0.01)
    assert not errors_of(dataset)


def test_what_is_transparent_is_black(saved):
    alpha = np.full_like(GREY, 255)
    alpha[:10], alpha[10:20] = 0, 128
    picture = np.asarray(with_alpha(GREY, alpha)).copy()
    picture[:10, :, 0] = 200  # colour that nobody sees
    pixels = wrap(saved(Image.fromarray(picture))).pixel_array
    assert not pixels[:10].any()
    assert np.abs(pixels[10:20] - GREY[10:20] * (128 / 255)).max() <= 0.5
    assert np.array_equal(pixels[20:], GREY[20:])


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_orientation_of_a_camera_is_applied(form, saved):
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture is shown turned clockwise
    path = saved(GREY, form, exif=exif)
    with Image.open(path) as picture:
        assert np.array_equal(wrap(path).pixel_array, np.rot90(np.asarray(picture), -1))


def test_the_picture_is_shown_as_it_is(saved, selected):
    for pixels, top in ((GREY, 255), (DEEP, 65535)):
        image = selected(wrap(saved(pixels)))
        for intensity in ("xrv", "voi"):
            settings = Settings.model_validate({"pixels": {"intensity": intensity}})
            shown = read(image, settings.pixels).pixels
            assert np.abs(shown - (pixels / np.float32(top) * 2 - 1) * 1024).max() < 0.1


def test_nothing_is_said_that_is_the_default(saved):
    assert "VOILUTFunction" not in wrap(saved(GREY)), "OHIF 3.13 shows a black image where it is said"


# --- attributes ----------------------------------------------------------------------------------


def test_equal_pictures_are_equal_instances(saved):
    first, second = wrap(saved(GREY)), wrap(saved(GREY))
    assert first == second
    other = wrap(saved(GREY[::-1]))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert first[keyword].value != other[keyword].value
    told = wrap(saved(GREY), {"patient_age": "40"})
    assert told.SOPInstanceUID == first.SOPInstanceUID


def test_nothing_says_who_or_when(saved):
    path = saved(GREY, exif=bytes(Image.Exif()), comment="Doe^Jane")
    dataset = wrap(path)
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    assert b"Jane" not in content.getvalue()
    assert not [each.keyword for each in dataset if each.VR in ("DA", "TM", "DT") and each.value]
    assert dataset.PatientName == ""


def test_the_provenance_is_stated(saved):
    path = saved(GREY)
    dataset = wrap(path)
    assert list(dataset.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert dataset.ConversionType == "WSD"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in dataset.DerivationDescription
    (equipment,) = dataset.ContributingEquipmentSequence
    assert equipment.Manufacturer == dataset.Manufacturer == "cxr-dicom wrap"
    assert "PixelSpacing" not in dataset


def test_what_is_told_is_stated(saved, errors_of):
    dataset = wrap(saved(GREY), {"patient_age": " 45 ", "patient_sex": "f", "view_position": "ap"})
    assert (dataset.PatientAge, dataset.PatientSex, dataset.ViewPosition) == ("045Y", "F", "AP")
    assert not errors_of(dataset)
    silent = wrap(saved(GREY), {"patient_age": "", "patient_sex": None, "view_position": " "})
    assert silent == wrap(saved(GREY))


@pytest.mark.parametrize(("age", "stated"), [("006M", "006M"), ("7", "007Y"), ("63.0", "063Y"), ("102", "102Y")])
def test_ages(age, stated, saved):
    assert wrap(saved(GREY), {"patient_age": age}).PatientAge == stated


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("patient_age", age) for age in ("old", "0.5", "-1", "1000")),
        ("patient_sex", "X"),
        ("view_position", "UPSIDE DOWN"),
    ],
)
def test_what_is_not_understood_is_refused_without_being_repeated(name, value, saved):
    with pytest.raises(ImageError, match=f"INVALID_ATTRIBUTES: {name}: expected") as caught:
        wrap(saved(GREY), {name: value})
    assert value not in str(caught.value)


# --- refusals ------------------------------------------------------------------------------------


def test_pictures_are_known_by_their_content(saved, tmp_path):
    assert is_picture(saved(GREY))
    assert is_picture(saved(GREY, "JPEG"))
    assert not is_picture(saved(GREY, "TIFF"))
    assert not is_picture(tmp_path / "nothing.png")
    dicom = tmp_path / "image.png"
    synthetic.radiograph(32, 32).save_as(dicom, enforce_file_format=True)
    assert not is_picture(dicom)
    dicom.write_bytes(b"\xff\xd8\xff".ljust(128, b"\0") + dicom.read_bytes()[128:])
    assert not is_picture(dicom)


def test_colour_is_refused(saved):
    tinted = RGB.copy()
    tinted[5, 5, 1] ^= 1
    assert refused(saved(tinted)) is Reason.NOT_GRAYSCALE
    assert refused(saved(Image.fromarray(RGB).convert("CMYK"), "JPEG")) is Reason.NOT_GRAYSCALE
    red_of_one_grey = 3 * int(PALETTE.getpixel((40, 60)))
    tinted_palette = PALETTE.copy()
    tinted_palette.putpalette([value ^ (index == red_of_one_grey) for index, value in enumerate(PALETTE.getpalette())])
    assert refused(saved(tinted_palette)) is Reason.NOT_GRAYSCALE


def test_sixteen_bit_colour_is_refused_rather_than_halved(tmp_path):
    """Pillow would give the upper half of each value."""
    path = tmp_path / "deep"
    path.write_bytes(png(struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0), b"\0" + b"\x12\x34" * 6))
    assert refused(path) is Reason.NOT_GRAYSCALE


def test_animations_are_refused(saved):
    path = saved(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())])
    assert refused(path) is Reason.MULTI_FRAME


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_cut_off_picture_is_refused(form, part, saved):
    path = saved(GREY, form)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert refused(path) is Reason.CORRUPT_PIXEL_DATA


def test_no_picture_is_unreadable(tmp_path):
    path = tmp_path / "picture.png"
    assert refused(path) is Reason.UNREADABLE
    for content in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM" + bytes(100)):
        path.write_bytes(content)
        assert refused(path) is Reason.UNREADABLE


def test_a_picture_in_colour_needs_little_more_memory_than_its_pixels(saved):
    path = saved(np.zeros((1500, 1400, 4), np.uint8))
    tracemalloc.start()
    dataset = wrap(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(dataset.PixelData), "one of 49 million pixels and 190 kB took 1.1 GB"


def test_thousands_of_scans_are_refused_undecoded(saved, monkeypatch):
    """A JPEG of 58 kB and 49 million pixels held the Send page of a service for minutes."""
    path = saved(GREY, "JPEG", progressive=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * 200 + whole[-2:])
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    assert refused(path) is Reason.CORRUPT_PIXEL_DATA


def test_a_picture_that_is_too_large_is_not_decoded(saved, tmp_path):
    assert refused(saved(GREY), max_pixels=GREY.size - 1) is Reason.MATRIX_TOO_LARGE
    assert wrap(saved(GREY), max_pixels=GREY.size).Rows == 120
    for columns, rows in ((100_000, 100_000), (70_000, 1)):
        path = tmp_path / "bomb"
        path.write_bytes(png(struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, 0), b""))
        assert refused(path) is Reason.MATRIX_TOO_LARGE


def test_a_picture_of_far_more_bytes_than_any_is_not_read(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        os.truncate(path, MOST_BYTES + 1)  # a hole
    with pytest.raises(ImageError, match="UNREADABLE: expected a picture of at most 512 MB"):
        wrap(paths[0])
    assert len(manifest.read(tmp_path, wrap=True).entries) == 2, "none was read to see that it equals the other"


def png(header, content):
    """A PNG file of a header and unpacked content."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- selection and results -----------------------------------------------------------------------


def test_selection_takes_nothing_that_was_made_up_for_known(saved, selected):
    image = selected(wrap(saved(GREY)))
    assert isinstance(image, ChestImage)
    assert image.spacing.source is SpacingSource.NONE
    assert image.view == ""
    assert set(image.warnings) == {
        "no attribute names the part of the body: taken for a chest",
        "no attribute names the view: taken for frontal",
        "made from a picture: taken as in the standard view, with what is bright dense",
        "no usable spacing: lengths are in pixels",
    }
    assert selected(wrap(saved(GREY)), unknown_view="skip").reason is Reason.UNKNOWN_VIEW


def test_selection_believes_what_was_told(saved, selected):
    image = selected(wrap(saved(GREY), {"view_position": "AP"}), unknown_view="skip")
    assert image.view == "AP"
    assert "no attribute names the view: taken for frontal" not in image.warnings
    assert selected(wrap(saved(GREY), {"view_position": "LL"})).reason is Reason.NOT_FRONTAL


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_of_a_real_radiograph_has_its_masks(form, real, saved, tmp_path):
    source = real("RG1_UNCR.dcm")
    (study,), _ = scan([source])
    pipeline = Pipeline(OFFLINE)
    expected = outlined(pipeline.process(study, tmp_path / "dicom"))

    stored = pydicom.dcmread(source)
    values = stored.pixel_array.astype(np.float32)
    if stored.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() - values
    grey = np.rint(255 * values / values.max()).astype(np.uint8)
    path = tmp_path / "wrapped.dcm"
    wrap(saved(grey, form)).save_as(path, enforce_file_format=True)
    (study,), _ = scan([path])
    found = outlined(pipeline.process(study, tmp_path / "picture"))
    pipeline.close()

    assert found.keys() == expected.keys() == {"right_lung", "left_lung", "heart"}
    for name, mask in expected.items():
        assert 2 * (mask & found[name]).sum() / (mask.sum() + found[name].sum()) > 0.98, name


def outlined(result):
    (instance,) = result.instances
    assert instance.outcome is Outcome.PROCESSED, instance.detail
    assert instance.objects
    return {m.structure.name: m.region.matrix() for p in instance.analysis.predictions for m in p.masks}
