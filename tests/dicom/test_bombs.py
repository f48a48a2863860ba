"""Code streams that claim more than the header of the image says: refused before anything is decoded.

Every trick is a header where a decoder of the transfer syntax does not look, before the one that it takes.
"""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom import codestream, pixels
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

ROWS, COLUMNS = 96, 80
XRV = PixelSettings(intensity="xrv")


def siz(rows, columns, components=1):
    fields = (columns, rows, 0, 0, columns, rows, 0, 0, components)
    return b"\xff\x51" + struct.pack(">HH8LH", 38 + 3 * components, 0, *fields) + b"\x07\x01\x01" * components


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(rows, columns, before=b"", **options):
    """A JPEG that claims a size, with something before its frame header."""
    file = BytesIO()
    Image.fromarray(np.zeros((ROWS, COLUMNS), np.uint8)).save(file, "JPEG", **options)
    frame = bytearray(file.getvalue())
    header = next(place for place in (frame.find(b"\xff\xc0"), frame.find(b"\xff\xc2")) if place > 0)
    frame[header + 5 : header + 9] = struct.pack(">HH", rows, columns)
    return bytes(frame[:2] + before + frame[2:])


def jp2(before, rows, columns):
    """A JP2 file around a code stream that claims a size, with a box of what is ``before`` it."""
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    box = struct.pack(">L4s", 8 + len(before), b"uuid") + before
    return signature + box + struct.pack(">L4s", 0, b"jp2c") + b"\xff\x4f" + siz(rows, columns) + b"\xff\xd9"


def frame_header(rows, columns, marker=0xC0):
    return segment(marker, struct.pack(">BHHB3B", 8, rows, columns, 1, 1, 0x11, 0))


def as_in_header():
    return b"\xff\x4f" + siz(ROWS, COLUMNS)


LARGE = 60_000, 60_000
TRICKS = {
    "a JPEG 2000 header in a comment of a JPEG": (JPEGBaseline8Bit, jpeg(*LARGE, segment(0xFE, as_in_header()))),
    "a JPEG 2000 header in a segment of an application": (
        JPEGBaseline8Bit,
        jpeg(*LARGE, segment(0xE3, as_in_header())),
    ),
    "a marker without a length": (
        JPEGBaseline8Bit,
        jpeg(*LARGE, b"\xff\x01" + frame_header(*LARGE) + frame_header(ROWS, COLUMNS)),
    ),
    "a restart before the frame": (JPEGBaseline8Bit, jpeg(*LARGE, b"\xff\xd0\xff\xc0" + frame_header(ROWS, COLUMNS))),
    "a second start": (JPEGBaseline8Bit, jpeg(*LARGE, b"\xff\xd8" + frame_header(ROWS, COLUMNS))),
    "two frame headers": (JPEGBaseline8Bit, jpeg(ROWS, COLUMNS, frame_header(*LARGE))),
    "a hierarchy": (JPEGBaseline8Bit, jpeg(ROWS, COLUMNS, frame_header(*LARGE, marker=0xDE))),
    "a differential frame": (JPEGBaseline8Bit, jpeg(ROWS, COLUMNS, frame_header(*LARGE, marker=0xC5))),
    "no size: it comes after the scan": (JPEGBaseline8Bit, jpeg(0, COLUMNS)),
    "a JPEG 2000 that is called a JPEG": (JPEGBaseline8Bit, as_in_header() + b"\xff\xd9"),
    "a JPEG that is called a JPEG 2000": (JPEG2000Lossless, jpeg(ROWS, COLUMNS)),
    "a JPEG that is called a JPEG-LS": (JPEGLSLossless, jpeg(ROWS, COLUMNS)),
    "a JPEG 2000 header in a box before the code stream": (JPEG2000Lossless, jp2(as_in_header(), *LARGE)),
    "bytes before the code stream": (JPEG2000Lossless, b"\0" * 40 + as_in_header() + b"\xff\xd9"),
    "a box without a length": (JPEG2000Lossless, jp2(b"", ROWS, COLUMNS)[:12] + bytes(40)),
    "many components": (JPEG2000Lossless, b"\xff\x4f" + siz(ROWS, COLUMNS, 16384) + b"\xff\xd9"),
}


@pytest.mark.parametrize(("syntax", "frame"), TRICKS.values(), ids=TRICKS)
def test_a_claim_that_the_header_does_not_make_is_refused_undecoded(selected, monkeypatch, syntax, frame):
    assert refusal(selected(wrapped(syntax, frame)), monkeypatch) in (
        "CORRUPT_PIXEL_DATA: expected (96, 80) rows and columns, found (60000, 60000)",
        *(f"CORRUPT_PIXEL_DATA: {text}" for text in EXPECTED),
    )


EXPECTED = (
    "expected (96, 80) rows and columns, found (0, 80)",
    "expected a code stream in JPEG Baseline (Process 1), found another start",
    "expected a code stream in JPEG 2000 Image Compression (Lossless Only), found another start",
    "expected a segment, found ff 01 of 65472 bytes in JPEG Baseline (Process 1)",
    "expected a segment, found ff d0 of 65472 bytes in JPEG Baseline (Process 1)",
    "expected a segment, found ff d8 of 65472 bytes in JPEG Baseline (Process 1)",
    "expected a segment, found ff de of 11 bytes in JPEG Baseline (Process 1)",
    "expected a segment, found ff c5 of 11 bytes in JPEG Baseline (Process 1)",
    "expected a segment, found ff c0 of 11 bytes in JPEG-LS Lossless Image Compression",
    "expected one frame header, found two in JPEG Baseline (Process 1)",
    "expected a box of 8 bytes or more, found 0 in JPEG 2000 Image Compression (Lossless Only)",
    "expected one component, found 16384 in JPEG 2000 Image Compression (Lossless Only)",
)


def test_thousands_of_scans_are_refused_undecoded(selected, monkeypatch):
    """A JPEG of 418 kB held a worker for half an hour: every scan goes over the whole picture again."""
    frame = jpeg(ROWS, COLUMNS, progressive=True)
    scan = frame.rindex(b"\xff\xda")
    bomb = frame[:-2] + frame[scan:-2] * 3000 + frame[-2:]
    detail = refusal(selected(wrapped(JPEGBaseline8Bit, bomb)), monkeypatch)
    assert detail.startswith("CORRUPT_PIXEL_DATA: expected 128 scans at most, found 3")


def test_a_progressive_jpeg_of_an_encoder_and_a_jp2_file_are_still_read(selected):
    """What writers did, although no transfer syntax allows it; against Pillow."""
    pixels = np.asarray(synthetic.radiograph(ROWS, COLUMNS, bits_allocated=8, bits_stored=8).pixel_array)
    for syntax, kind, options in (
        (JPEGBaseline8Bit, "JPEG", {"progressive": True, "quality": 95}),
        (JPEG2000Lossless, "JPEG2000", {}),
    ):
        file = BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        expected = np.asarray(Image.open(file)).astype(np.float32)
        shown = read(selected(wrapped(syntax, file.getvalue())), XRV).pixels
        np.testing.assert_allclose((shown / 1024 + 1) / 2 * 255, expected, atol=1.001)  # two inverse cosine transforms


def wrapped(syntax, frame):
    dataset = synthetic.radiograph(ROWS, COLUMNS, bits_allocated=8, bits_stored=8)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def refusal(image, monkeypatch):
    def decoded(*arguments):
        pytest.fail("it was decoded")

    monkeypatch.setattr(pixels, "_decoded_words", decoded)
    with pytest.raises(ImageError) as refused:
        read(image, XRV)
    assert refused.value.reason is Reason.CORRUPT_PIXEL_DATA
    return str(refused.value)


def test_fill_bytes_before_a_marker_are_skipped():
    frame = jpeg(ROWS, COLUMNS)
    stream = codestream.read(frame[:2] + b"\xff\xff" + frame[2:], JPEGBaseline8Bit)
    assert stream is not None
    assert stream.shape == (ROWS, COLUMNS)
