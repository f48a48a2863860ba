"""Headers that mean harm are refused within bounds of memory, time and depth; others are read as pydicom does."""

import struct
import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from cxr_dicom.dicom import deflate
from cxr_dicom.dicom.files import MOST_FILE_BYTES, read_header, read_whole
from cxr_dicom.dicom.structure import MOST_BYTES
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import IDENTITY, read_instance
from cxr_dicom.records import Reason
from cxr_dicom.synthetic import radiograph, stored_as

MOST_DEPTH, MOST_ELEMENTS = 32, 100_000  # as docs/security.md says
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
UNDEFINED = b"\xff\xff\xff\xff"
EMPTY_ITEM = ITEM + bytes(4)


def element(tag, vr, value, length=None):
    """Encode an element of explicit VR and a length of four bytes."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + bytes(2)
    return head + (struct.pack("<L", len(value)) if length is None else length) + value


def endless(tag, content, vr=b"SQ"):
    return element(tag, vr, content + SEQUENCE_END, UNDEFINED)


def nested(depth):
    """A sequence in an item of a sequence, and so on, all of undefined length."""
    head = b"\x40\x00\x75\xa2SQ" + bytes(2) + UNDEFINED + ITEM + UNDEFINED  # ReferencedImageSequence or any other
    return head * depth + (ITEM_END + SEQUENCE_END) * depth


@pytest.fixture
def with_elements(tmp_path):
    """Write a radiograph with more elements in its data set: after the UIDs, before the pixel data, or after them."""

    def write(more, where="before pixels"):
        content = BytesIO()
        radiograph(16, 16).save_as(content, enforce_file_format=True)
        whole = content.getvalue()
        pixels = whole.index(b"\xe0\x7f\x10\x00OW")
        place = {"first": whole.index(b"\x08\x00\x08\x00"), "before pixels": pixels, "last": len(whole)}[where]
        path = tmp_path / "more.dcm"
        path.write_bytes(whole[:place] + more + whole[place:])
        return path

    return write


def test_a_header_bomb_takes_little_memory_and_is_refused(with_elements):
    path = with_elements(endless(0x00091010, EMPTY_ITEM * 40_000))  # 320 KB; pydicom makes 30 MB of it
    tracemalloc.start()
    with pytest.raises(ImageError, match="at most 10000 elements") as refused:
        read_header(path, IDENTITY, most_elements=10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.reason is Reason.UNREADABLE
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "bomb",
    [
        element(0x00400275, b"SQ", EMPTY_ITEM * (MOST_ELEMENTS + 1)),
        endless(0x00400275, EMPTY_ITEM * (MOST_ELEMENTS + 1)),
        endless(0x00400275, ITEM + UNDEFINED + b"\x08\x00\x04\x01LO\0\0" * MOST_ELEMENTS + ITEM_END),
    ],
    ids=["of stated length", "of undefined length", "elements of one item"],
)
def test_no_sequence_that_is_read_has_more_than_so_many_elements_and_items(with_elements, bomb):
    with pytest.raises(ImageError, match="at most"):
        read_header(with_elements(bomb), ("RequestAttributesSequence",))


def test_what_nobody_wants_is_passed_over(with_elements):
    path = with_elements(element(0x00400275, b"SQ", EMPTY_ITEM * (MOST_ELEMENTS + 1)) + endless(0x00091010, EMPTY_ITEM))
    header = read_header(path, IDENTITY)
    assert sorted(each.keyword for each in header.dataset) == sorted(IDENTITY)
    assert header.pixel_length == 16 * 16 * 2


def test_the_time_grows_with_the_bytes(with_elements):
    def seconds(items):
        path = with_elements(endless(0x00091010, EMPTY_ITEM * items))
        return min(_seconds(lambda: read_header(path, IDENTITY)) for _ in range(5))

    assert seconds(20_000) < 10 * seconds(5_000)


def _seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 10_000])
def test_nesting_is_bounded(with_elements, depth):
    assert read_header(with_elements(nested(MOST_DEPTH - 1))).pixel_keyword == "PixelData"
    with pytest.raises(ImageError, match=f"at most {MOST_DEPTH} items within items"):
        read_instance(with_elements(nested(depth)))


@pytest.mark.parametrize("length", [b"\xfe\xff\xff\xff", UNDEFINED], ids=["4 GB", "undefined"])
@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ", b"UT"])
def test_an_element_without_an_end_is_truncated(with_elements, vr, length):
    with pytest.raises(ImageError) as refused:
        read_instance(with_elements(element(0x00091010, vr, b"", length)))
    assert refused.value.reason is Reason.UNREADABLE


def test_no_text_or_number_is_longer_than_a_lookup_table(tmp_path):
    image = radiograph(16, 16)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VR has 64 KB at most
    path = tmp_path / "long.dcm"
    image.WindowCenter = ["1"] * 65_536
    image.save_as(path, enforce_file_format=True)
    assert len(read_header(path).values("WindowCenter")) == 65_536
    image.WindowCenter = ["1"] * 65_600
    image.save_as(path, enforce_file_format=True)
    with pytest.raises(ImageError, match="at most 131072 bytes in a value"):
        read_header(path)
    assert read_instance(path).sop_instance_uid == image.SOPInstanceUID  # nobody asked for it


def test_a_thousand_character_sets_are_refused(with_elements):
    names = b"X\\" * 200
    within = ITEM + UNDEFINED + struct.pack("<HH2sH", 8, 5, b"CS", len(names)) + names + ITEM_END
    for bomb in (endless(0x00400275, within), element(0x00400275, b"SQ", within)):
        with pytest.raises(ImageError, match="at most 256 bytes of character sets"):
            read_header(with_elements(bomb))
    with pytest.raises(ImageError, match="at most 256 bytes of character sets"):
        read_instance(with_elements(struct.pack("<HH2sH", 8, 5, b"CS", len(names)) + names, "first"))


def test_no_more_than_64_mb_are_read_before_the_pixel_data(with_elements):
    path = with_elements(element(0x00091010, b"OB", bytes(65 << 20)))
    assert read_instance(path) is not None
    with pytest.raises(ImageError, match="at most 64 MB"):
        read_header(path)


def test_no_sequence_that_is_read_has_more_than_64_mb(with_elements):
    with pytest.raises(ImageError, match=r"at most 64 MB"):
        read_header(with_elements(element(0x00400275, b"SQ", b"", struct.pack("<L", 65 << 20))))


def test_sequences_of_private_elements_are_not_entered(with_elements):
    bomb = element(0x00091010, b"SQ", EMPTY_ITEM * (MOST_ELEMENTS + 1))
    assert read_header(with_elements(bomb)).text("Modality") == "DX"


def test_a_value_without_a_length_ends_at_its_delimiter(with_elements):
    path = with_elements(endless(0x00091010, b"no items, and more bytes than one read takes " * 9_000, b"OB"))
    assert read_header(path, IDENTITY).pixel_length == 16 * 16 * 2


def test_items_whose_elements_have_no_vr_are_walked_although_those_around_have_it(with_elements):
    """A length of 0x5555 bytes reads as the value representation UU where one is expected."""
    code = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"A "
    meaning = struct.pack("<HHL", 0x0008, 0x0104, 0x5555) + b"x" * 0x5555
    path = with_elements(endless(0x00400275, ITEM + UNDEFINED + code + meaning + ITEM_END))
    assert read_header(path, IDENTITY).pixel_length == 16 * 16 * 2


@pytest.mark.parametrize("group", [0, 2])
@pytest.mark.parametrize("where", ["first", "before pixels"])
def test_group_0_and_2_are_no_part_of_a_data_set(with_elements, group, where):
    claim = struct.pack("<HH2sH", group, 0x0010, b"UI", 22) + b"1.2.840.10008.1.2.1.99"
    path = with_elements(claim, where)
    if group == 2 and where == "first":
        path.write_bytes(path.read_bytes().replace(claim, b"\x08\x00\x06\x00SQ\0\0" + bytes(4) + claim))
    with pytest.raises(ImageError, match="group 0 or 2"):
        read_instance(path)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (element(0x00020102, b"SQ", EMPTY_ITEM * MOST_ELEMENTS, UNDEFINED), "an end within an element"),
        (element(0x00020102, b"OB", bytes(1 << 16)), "65536 bytes of file meta"),
    ],
    ids=["items", "bytes"],
)
def test_file_meta_information_is_bounded(tmp_path, more, match):
    path = tmp_path / "meta.dcm"
    path.write_bytes(bytes(128) + b"DICM" + more)
    with pytest.raises(ImageError, match=match):
        read_instance(path)


def test_fragments_are_bounded(tmp_path):
    image = stored_as(radiograph(32, 32), JPEG2000Lossless)
    path = tmp_path / "fragments.dcm"
    image.PixelData = EMPTY_ITEM * (MOST_ELEMENTS + 1)
    image.save_as(path, enforce_file_format=True)
    for reader in (read_header, read_whole):
        with pytest.raises(ImageError, match="at most"):
            reader(path)


def test_no_end_is_searched_for_without_end(with_elements):
    path = with_elements(element(0x00091010, b"OB", b"", UNDEFINED))
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + (1 << 20))  # a hole
    for reader in (read_instance, read_header, read_whole):
        with pytest.raises(ImageError, match="at most 64 MB before the pixel data"):
            reader(path)


def test_a_file_of_far_more_bytes_than_any_image_is_not_read(with_elements):
    path = with_elements(b"")
    with path.open("r+b") as file:
        file.truncate(MOST_FILE_BYTES)  # a hole
        assert read_instance(path)
        file.truncate(MOST_FILE_BYTES + 1)
    for reader in (read_instance, read_header, read_whole):
        with pytest.raises(ImageError, match="at most 1024 MB in a file") as refused:
            reader(path)
        assert refused.value.reason is Reason.UNREADABLE


def test_a_deflated_file_unpacks_to_so_much_and_no_more(tmp_path, monkeypatch):
    image, path = stored_as(radiograph(64, 64), DeflatedExplicitVRLittleEndian), tmp_path / "deflated.dcm"
    image.save_as(path, enforce_file_format=True)
    assert read_whole(path).PixelData
    monkeypatch.setattr(deflate, "MOST_INFLATED", 64 * 64 * 2)
    with pytest.raises(ImageError, match="when unpacked, found more"):
        read_header(path)


def test_what_comes_after_the_pixel_data_is_never_read(with_elements):
    path = with_elements(endless(0x7FF11010, EMPTY_ITEM * (MOST_ELEMENTS + 1)) + b"garbage", "last")
    assert len(read_whole(path).PixelData) == 16 * 16 * 2
    assert 0x7FF11010 not in read_whole(path)


@pytest.mark.parametrize(
    "broken",
    [bytes(80), EMPTY_ITEM + b"\x08\x00\x50\x11UI\x04\x001.2 ", ITEM + b"\4\0\0\0" + b"\x08\x00\x50\x11UI\x04\x001.2 "],
    ids=["zeros", "an element between items", "an element beyond its item"],
)
def test_a_sequence_that_is_none_is_left_out_and_the_rest_is_read(with_elements, broken):
    header = read_header(with_elements(element(0x00400275, b"SQ", broken)))
    assert header.values("RequestAttributesSequence") == []
    assert header.text("Modality") == "DX"


def test_a_delimiter_where_the_length_is_stated_ends_the_sequence(with_elements):
    path = with_elements(element(0x00400275, b"SQ", EMPTY_ITEM + SEQUENCE_END))
    assert len(read_header(path).values("RequestAttributesSequence")) == 1


def public_files():
    paths = {Path(name) for pattern in ("*.dcm", "*DICOMDIR*") for name in get_testdata_files(pattern)}
    return sorted(path for path in paths if path.stat().st_size < 1 << 15)


@pytest.mark.filterwarnings("ignore")
def test_headers_are_what_pydicom_reads():
    same = 0
    for path in public_files():
        try:
            header = read_header(path)
        except ImageError:
            continue
        assert header.dataset == dcmread(path, force=True, stop_before_pixels=True), path
        same += 1
    assert same > 60


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("is_undefined", [True, False])
def test_sequences_of_any_encoding_are_read(tmp_path, syntax, is_undefined):
    image = radiograph(16, 16)
    item = Dataset()
    item.CodeValue, item.ViewModifierCodeSequence = "A", [Dataset()]
    item.ViewModifierCodeSequence[0].CodeValue = "B"
    image.ViewCodeSequence = [item, Dataset()]
    for each in (image["ViewCodeSequence"], item["ViewModifierCodeSequence"]):
        each.is_undefined_length = is_undefined
    for each in (*image.ViewCodeSequence, *item.ViewModifierCodeSequence):
        each.is_undefined_length_sequence_item = is_undefined
    if syntax == ExplicitVRBigEndian:
        image.PixelData = bytes(16 * 16 * 2)
    image.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    for tags in ((), ("ViewCodeSequence",)):
        header = read_header(path, tags)
        assert header.dataset.ViewCodeSequence == dcmread(path).ViewCodeSequence
        assert header.codes("ViewCodeSequence") == ["A"]
