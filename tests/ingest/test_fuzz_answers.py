"""What archives, senders and tables bring, as nobody thought of it: read whole, or refused in an error of ours."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import requests
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cxr_dicom.errors import ConnectionFailedError, FetchError, ImageError
from cxr_dicom.ingest import dicom_json
from cxr_dicom.ingest.wrap import wrap
from cxr_dicom.records import Reason
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.dicomweb.parts import Parts
from tests.fuzzing import damaged, fuzz

FILE = bytes(128) + b"DICM" + bytes(20)
ITEMS = [{"0020000D": {"vr": "UI", "Value": ["1.2"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}}]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["vr", "Value", "Alphabetic", "0020000D", "00080061", "x"]), inner)
    ),
    max_leaves=12,
)
BODIES = [
    b"--b\r\nContent-Type: application/dicom\r\n\r\n" + FILE + b"\r\n--b--\r\n",
    b"\r\n--b\r\nContent-Type: application/dicom\r\nContent-Location: x\r\n\r\n\r\n--b\r\n\r\n" + FILE + b"\r\n--b--",
]
TYPES = ['multipart/related; type="application/dicom"; boundary=b', "application/dicom", "text/html", "multipart/x"]


def read(how, *arguments, by):
    """What is read; None where it is refused, as it should be: by one error, in few words."""
    said = ""
    try:
        return how(*arguments)
    except by as error:
        said = str(error)
    assert 0 < len(said) < 300
    return None


def test_dicom_json():
    answer = requests.Response()
    answer.status_code = 200

    def check(content):
        answer._content = content
        items = read(dicom_json.items_of, answer, by=ConnectionFailedError)
        for item in items or ():
            assert all(isinstance(value, str) for values in item.values() for value in values)

    given = VALUES.map(lambda value: json.dumps(value).encode()) | st.lists(VALUES).map(
        lambda v: json.dumps(v).encode()
    )
    fuzz(check, damaged([json.dumps(ITEMS).encode(), b"[]", b"{}"]) | given, examples=100)


def test_the_only_part():
    def check(kind, body):
        found = read(dicom_json.only_part, kind, body, by=FetchError)
        assert found is None or (found[128:132] == b"DICM" and found in body)

    fuzz(
        check,
        st.sampled_from(TYPES) | damaged([kind.encode() for kind in TYPES]).map(_text),
        damaged(BODIES),
        examples=100,
    )


def _text(content):
    return content.decode("latin-1")


def test_parts_do_not_depend_on_the_pieces_that_they_come_in():
    def check(kind, body, cuts):
        whole = told(kind, [body])
        places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        assert told(kind, [body[a:b] for a, b in itertools.pairwise(places)]) == whole

    cuts = st.lists(st.integers(0, 400), max_size=6)
    fuzz(
        check, st.sampled_from(TYPES[:1]) | damaged([TYPES[0].encode()]).map(_text), damaged(BODIES), cuts, examples=100
    )


def told(kind, pieces):
    """What is told of a body before it is refused, if it is: each part with its type and bytes."""
    found = []
    try:
        parts = Parts(kind)
        for piece in pieces:
            for event in parts.read(piece):
                if isinstance(event, str):
                    found.append((event, bytearray()))
                elif event:
                    found[-1][1].extend(event)
    except NotAnsweredError as error:
        return error.status
    return found, parts.is_whole


def pictures():
    grey = Image.fromarray(np.arange(480, dtype=np.uint8).reshape(24, 20))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "Doe^Jane" * 40, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways = [("PNG", grey, {"pnginfo": notes}), ("PNG", grey.convert("I;16"), {}), ("PNG", grey.convert("P"), {})]
    ways += [("JPEG", grey, {"exif": exif}), ("JPEG", grey.convert("RGB"), {"progressive": True})]
    made = []
    for kind, picture, options in ways:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        made.append(file.getvalue())
    return made


@pytest.mark.filterwarnings("ignore")
def test_pictures(tmp_path):
    path: Path = tmp_path / "picture"
    whole = Reason.UNREADABLE, Reason.CORRUPT_PIXEL_DATA
    refusals = {*whole, Reason.NOT_GRAYSCALE, Reason.MATRIX_TOO_LARGE, Reason.MULTI_FRAME}

    def check(content):
        path.write_bytes(content)
        said = ""
        try:
            dataset = wrap(path, max_pixels=10_000)
        except ImageError as error:
            reason, said = error.reason, str(error)
        assert "Doe" not in said
        if said:
            assert reason in refusals
            return
        size = dataset.Rows * dataset.Columns
        assert 0 < size <= 10_000
        assert len(dataset.PixelData) == (size * dataset.BitsAllocated // 8 + 1) // 2 * 2
        assert "Doe" not in str(dataset)

    fuzz(check, damaged(pictures()), examples=100)
