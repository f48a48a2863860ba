"""Headers that nobody thought of: read as pydicom does or refused with a reason, within bounds of time and memory."""

import struct
import time
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from cxr_dicom.dicom.files import PARSING_ERRORS, read_header, read_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import IDENTITY
from cxr_dicom.records import Reason
from cxr_dicom.synthetic import radiograph, stored_as
from tests.fuzzing import damaged, fuzz

BYTES_EACH = 300  # of memory for a byte of the file; pydicom alone takes 90 for an empty item, which has eight
FIXED = 8 << 20  # bytes; pydicom loads its dictionaries once
SECONDS = 2.0


def content(dataset):
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def corpus():
    image = radiograph(16, 16)
    item = Dataset()
    item.CodeValue, item.ViewModifierCodeSequence = "A", [Dataset()]
    item.add_new(0x00091001, "SQ", [Dataset()])
    image.ViewCodeSequence = [item]
    image.add_new(0x00090010, "LO", "SOMEBODY")
    image.add_new(0x00091001, "SQ", [item])
    image.add_new(0x00091002, "UN", b"\xfe\xff\x00\xe0\0\0\0\0")
    made = []
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        for is_undefined in (True, False):
            for each in (image["ViewCodeSequence"], item["ViewModifierCodeSequence"], image[0x00091001]):
                each.is_undefined_length = is_undefined
            item.is_undefined_length_sequence_item = is_undefined
            image.file_meta.TransferSyntaxUID = syntax
            made.append(content(image))
    return [*made, content(stored_as(radiograph(32, 32), JPEG2000Lossless)), made[0][132:]]


TAGS = [b"\x08\x00\x05\x00", b"\x40\x00\x75\x02", b"\x09\x00\x01\x10", b"\x28\x00\x10\x30", b"\xfe\xff\x00\xe0"]
VRS = [b"SQ\0\0", b"UN\0\0", b"OB\0\0", b"LO", b"DS", b"zz", b"", b"UT\0\0"]
LENGTHS = [b"", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\xff\xff", b"\x08\0\0\0", b"\4\0"]
ENDS = [b"", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"]


def trees():
    """Elements and items within one another, with lengths that are true or not, and with ends or without."""
    head = st.tuples(st.sampled_from(TAGS), st.sampled_from(VRS), st.sampled_from(LENGTHS)).map(b"".join)
    leaf = st.binary(max_size=12)
    return st.recursive(
        leaf,
        lambda inner: (
            st.tuples(head, st.lists(inner, max_size=3).map(b"".join), st.sampled_from(ENDS)).map(b"".join)
            | inner.map(lambda each: b"\xfe\xff\x00\xe0" + struct.pack("<L", len(each)) + each)
        ),
        max_leaves=12,
    )


def check(path, whole):
    path.write_bytes(whole)
    start, refused = time.process_time(), None
    tracemalloc.start()
    try:
        found = [read(path) for read in (lambda p: read_header(p, IDENTITY).dataset, lambda p: read_header(p).dataset)]
        for dataset in found:
            for tag in list(dataset.keys()):
                try:
                    dataset[tag]
                except PARSING_ERRORS:
                    continue
    except ImageError as error:
        found, refused = [], error.reason
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES_EACH * len(whole) + FIXED
    assert time.process_time() - start < SECONDS
    if found:
        agrees_with_pydicom(found[0], path)
    try:
        read_whole(path)
    except ImageError as error:
        refused = error.reason
    assert refused in (None, Reason.UNREADABLE, Reason.NOT_DICOM)


def agrees_with_pydicom(ours, path):
    try:
        theirs = dcmread(path, force=True, stop_before_pixels=True)
    except (OSError, *PARSING_ERRORS):
        return
    for keyword in IDENTITY:
        if keyword in theirs and keyword in ours:
            assert str(ours[keyword].value) == str(theirs[keyword].value)


@pytest.mark.filterwarnings("ignore")
def test_damaged_headers_are_read_or_refused(tmp_path):
    path = tmp_path / "damaged.dcm"
    fuzz(lambda whole: check(path, whole), damaged(corpus()), examples=80)


@pytest.mark.filterwarnings("ignore")
def test_elements_of_any_shape_are_read_or_refused(tmp_path):
    path, plain = tmp_path / "tree.dcm", content(radiograph(16, 16))
    place = plain.index(b"\x08\x00\x60\x00")

    def one(tree, count):
        check(path, plain[:place] + tree * count + plain[place:])

    fuzz(one, trees(), st.sampled_from([1, 2, 500]), examples=80)
