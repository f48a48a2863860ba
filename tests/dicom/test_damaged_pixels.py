"""Damaged pixel data: a reason, never a crash, never a picture that is not there."""

import itertools
import random
import struct

import numpy as np
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings, SelectSettings
from cxr_dicom.dicom import codestream, pixels
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import Reason
from cxr_dicom.select import select

XRV, VOI = PixelSettings(intensity="xrv"), PixelSettings(intensity="voi")


def chest(rows=65, columns=48, **parameters):
    return synthetic.radiograph(rows, columns, **parameters)


def outcome(image):
    """Why an image is refused, or its warnings."""
    try:
        return read(image, XRV).warnings
    except ImageError as error:
        return error.reason


def refusal(image):
    with pytest.raises(ImageError) as refused:
        read(image, XRV)
    assert "Synthetic" not in refused.value.detail
    return refused.value.reason


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_a_damaged_stream_is_corrupt(selected, syntax):
    dataset = synthetic.stored_as(chest(), syntax)
    dataset.PixelData = encapsulate([b"\x01\x02\x03\x04" * 100])
    assert refusal(selected(dataset)) is Reason.CORRUPT_PIXEL_DATA


def test_a_stream_that_ends_too_early_never_passes_in_silence(selected):
    """OpenJPEG refuses it, others make up the rest."""
    for syntax, kept in itertools.product([JPEG2000Lossless, JPEGLSLossless], [60, 700, -20]):
        dataset = synthetic.stored_as(chest(), syntax)
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1).rstrip(b"\0")
        dataset.PixelData = encapsulate([frame[:kept]])
        found = outcome(selected(dataset))
        assert found is Reason.CORRUPT_PIXEL_DATA or "no end marker" in " ".join(found)


@pytest.mark.parametrize("padding", [0, 1, 20])
def test_padding_after_the_end_marker_is_no_warning(selected, padding):
    dataset = synthetic.stored_as(chest(), JPEG2000Lossless)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame + b"\0" * padding])
    assert read(selected(dataset), XRV).warnings == ()


def test_an_interrupt_during_decoding_is_no_damage(selected, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    image = selected(chest())
    monkeypatch.setattr(pixels, "_decoded_words", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(image, XRV)


def test_an_empty_sequence_of_fragments_is_corrupt(selected):
    dataset = synthetic.stored_as(chest(), RLELossless)
    dataset.PixelData = encapsulate([b"\0\0"])
    assert refusal(selected(dataset)) is Reason.CORRUPT_PIXEL_DATA


@pytest.mark.parametrize(
    ("syntax", "size"),
    [
        *itertools.product([JPEG2000Lossless, JPEGLSLossless], [(64, 48), (66, 48), (65, 47), (48, 65)]),
        (RLELossless, (66, 48)),  # RLE states no size: only a lack of pixels is seen
        (RLELossless, (65, 47)),
    ],
)
def test_a_stream_of_another_size_than_the_header_is_corrupt(selected, syntax, size):
    dataset = synthetic.stored_as(chest(), syntax)
    dataset.Rows, dataset.Columns = size
    assert refusal(selected(dataset)) is Reason.CORRUPT_PIXEL_DATA


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(selected, monkeypatch, syntax):
    dataset = synthetic.stored_as(chest(), syntax)
    stream = bytearray(dataset.PixelData)
    if syntax == JPEG2000Lossless:
        size = stream.index(b"\xff\x4f\xff\x51") + 8
        stream[size : size + 8] = struct.pack(">2L", 60_000, 60_000)
    else:
        size = stream.index(b"\xff\xf7") + 5
        stream[size : size + 4] = struct.pack(">2H", 60_000, 60_000)
    dataset.PixelData = bytes(stream)
    image = selected(dataset)
    with pytest.raises(ImageError) as refused:
        read(image, XRV)
    assert refused.value.reason is Reason.CORRUPT_PIXEL_DATA
    assert "60000" in refused.value.detail, "the stated size was compared, nothing was decoded"


def test_the_size_of_a_jpeg_2000_stream_is_that_of_its_image_area():
    """Inside the reference grid: Xsiz - XOsiz, Ysiz - YOsiz (ISO/IEC 15444-1 B.2)."""
    size = struct.pack(">3H8LH3B", 0xFF51, 47, 0, 48 + 5, 65 + 7, 5, 7, 48, 65, 0, 0, 1, 0x80 | 11, 1, 1)
    stream = codestream.read(b"\xff\x4f" + size, JPEG2000Lossless)
    assert (stream.shape, stream.precision, stream.is_signed) == ((65, 48), 12, True)


def test_a_file_that_is_gone_is_unreadable(selected, stored):
    path = stored(chest())
    image = selected(path)
    path.unlink()
    assert refusal(image) is Reason.UNREADABLE


def test_a_file_that_was_replaced_since_its_selection_is_corrupt(selected, stored):
    path = stored(chest())
    image = selected(path)
    chest(66, 48).save_as(path, enforce_file_format=True)
    assert refusal(image) is Reason.CORRUPT_PIXEL_DATA


def test_a_transfer_syntax_without_a_decoder_is_refused(selected, stored):
    path = stored(synthetic.stored_as(chest(), RLELossless))
    image = selected(path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.9\0"))
    assert refusal(image) is Reason.UNDECODABLE_TRANSFER_SYNTAX


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_damaged_files_give_a_reason_and_nothing_else(tmp_path, stored, syntax):
    content, chance = stored(synthetic.stored_as(chest(), syntax)).read_bytes(), random.Random(4)
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(10):
            damaged[chance.randrange(300, len(content))] = chance.randrange(256)
        (tmp_path / f"damaged-{number}").write_bytes(damaged)
    studies, _ = scan([tmp_path])
    for study in studies:
        for image in select(study, SelectSettings()).images:
            for settings in (XRV, VOI):
                try:
                    radiograph = read(image, settings)
                except ImageError:
                    continue
                assert np.isfinite(radiograph.pixels).all()
                assert np.abs(radiograph.pixels).max() <= 1024
