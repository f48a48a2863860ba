"""The one way to open a DICOM file: is it DICOM, is it whole, and what does its header say.

pydicom reads on where a file ends too early, and reads random bytes when asked to do without a
preamble. Here both are an :class:`~cxr_dicom.errors.ImageError` with a reason.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import parse_fragments
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cxr_dicom.dicom.private_parts import read_file_meta_info
from cxr_dicom.dicom.text import readings
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

_PIXEL_TAGS = frozenset(map(Tag, ("FloatPixelData", "DoubleFloatPixelData", "PixelData")))
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ELEMENT_HEAD_LENGTH = 8
_MOST_INFLATED = 1 << 29  # bytes of a deflated data set; no radiograph comes near
_DELIMITER_LENGTH = 8  # of the item that ends encapsulated pixel data
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA")  # of the elements that may come first
_SYNTAX_OF_ENCODING: dict[tuple[bool | None, bool | None], UID] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}

_SIGNATURES = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x5c\x01\0\0": "a NIfTI volume",
}

# What pydicom is seen to raise on damaged files.
PARSING_ERRORS = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """What stands before the pixel data of a file."""

    dataset: Dataset  # with file meta information that names the transfer syntax
    pixel_keyword: str  # "PixelData", "FloatPixelData", ...; empty when the file has none
    pixel_length: int | None  # bytes of the pixel data element; None when encapsulated or absent

    @property
    def transfer_syntax(self) -> UID:
        """Transfer Syntax UID, from the file meta information or as found."""
        return UID(self.dataset.file_meta.TransferSyntaxUID)

    def values(self, keyword: str) -> list[Any]:
        """All values of an attribute, see :func:`values`."""
        return values(self.dataset, keyword)

    def text(self, keyword: str) -> str:
        """The values of an attribute as text, separated by blanks."""
        return " ".join(str(value) for value in self.values(keyword)).strip()

    def integer(self, keyword: str) -> int | None:
        """The one integer that an attribute holds, if it does."""
        found = self.values(keyword)
        return int(found[0]) if len(found) == 1 and isinstance(found[0], int) else None

    def codes(self, keyword: str) -> list[str]:
        """The Code Values of a sequence of codes."""
        return [str(code) for item in self.values(keyword) for code in values(item, "CodeValue")]


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of an attribute; none where it is missing, empty or cannot be parsed.

    Text is read without a change to the data set, which keeps the bytes: see :mod:`cxr_dicom.dicom.text`.
    """
    try:
        text = readings(dataset, Tag(keyword))
        value = dataset.get(keyword) if text is None else text
    except PARSING_ERRORS:
        return []
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def read_header(path: Path, tags: Sequence[str] = ()) -> Header:
    """Read a file up to its pixel data.

    Parameters
    ----------
    path
        A file of any name.
    tags
        Keywords of the only attributes to keep; empty: all.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``; a file whose end is missing is unreadable.
    """
    with _open(path) as file:
        wanted: list[BaseTag | int] = [Tag(tag) for tag in tags]
        watch = _Watch(file, wanted)
        dataset = read_partial(file, watch, force=True, specific_tags=wanted or None)
        if watch.is_empty or (watch.saw_wanted and not len(dataset)):  # pydicom drops all if a sequence has no end
            raise ImageError(Reason.UNREADABLE, "truncated: expected a data set, the file ends in it or before it")
        dataset.buffer = None  # of a deflated file: would keep its pixel data in memory
        _name_transfer_syntax(dataset)
        if dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:  # zlib checks its own end
            _expect_size(file, _end_of_fragments(file, watch.start) if watch.is_encapsulated else watch.least_size)
    return Header(
        dataset=dataset,
        pixel_keyword=watch.pixel_keyword,
        pixel_length=None if watch.is_encapsulated else watch.pixel_length,
    )


def read_whole(path: Path) -> Dataset:
    """Read a file with its pixel data.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``.
    """
    with _open(path) as file:
        dataset = dcmread(file, force=True)
        _name_transfer_syntax(dataset)
        return dataset


class _Watch:
    """Called by pydicom at each element: stops at pixel data, and notes where the last element lies."""

    def __init__(self, file: BinaryIO, wanted: Sequence[int]) -> None:
        self.file = file
        self.wanted = frozenset(wanted)
        self.is_empty = True
        self.saw_wanted = False
        self.start = self.end = 0  # of the last value, in bytes of the file
        self.pixel_keyword = ""
        self.pixel_length: int | None = None

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self.is_empty = False
        self.saw_wanted |= not self.wanted or tag in self.wanted
        self.start = self.file.tell()
        self.end = 0 if length == _UNDEFINED_LENGTH else self.start + length
        if tag in _PIXEL_TAGS:
            self.pixel_keyword, self.pixel_length = keyword_for_tag(tag), length
        return tag in _PIXEL_TAGS

    @property
    def least_size(self) -> int:
        """Bytes that the file must have; a few bytes more are the beginning of an element that is cut off."""
        excess = os.fstat(self.file.fileno()).st_size - self.end
        cut_off = not self.pixel_keyword and self.end and 0 < excess < _ELEMENT_HEAD_LENGTH
        return self.end + (_ELEMENT_HEAD_LENGTH if cut_off else 0)

    @property
    def is_encapsulated(self) -> bool:
        return self.pixel_length == _UNDEFINED_LENGTH


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file that looks like DICOM; errors of parsing become an ImageError."""
    try:
        if not path.is_file():  # a named pipe would block
            raise ImageError(Reason.UNREADABLE, "expected a file, found none or something else")
        with path.open("rb") as file:
            start = file.read(132)
            _expect_dicom(start)
            if start[128:] == b"DICM":
                _expect_bounded(file)
            file.seek(0)
            yield file
    except OSError as error:
        raise ImageError(
            Reason.UNREADABLE, f"expected a readable file, got {error.strerror or 'an end within an element'}"
        ) from error
    except PARSING_ERRORS as error:
        raise ImageError(Reason.UNREADABLE, f"expected a DICOM data set, got {type(error).__name__}") from error


def _expect_dicom(start: bytes) -> None:
    if start[128:] == b"DICM" or _is_first_element(start[:8]):
        return
    found = "an empty file" if not start else "something else"
    found = next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), found)
    raise ImageError(Reason.NOT_DICOM, f"expected 'DICM' at byte 128 or a first DICOM element, found {found}")


def _expect_bounded(file: BinaryIO) -> None:
    """Refuse a deflated data set that unpacks beyond all reason; pydicom would unpack it in memory."""
    if read_file_meta_info(file).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    packed = file.read(1 << 20)
    while packed and not inflater.eof:
        size += len(inflater.decompress(packed, 1 << 20))
        if size > _MOST_INFLATED:
            raise ImageError(Reason.UNREADABLE, f"expected at most {_MOST_INFLATED >> 20} MB when unpacked, found more")
        packed = inflater.unconsumed_tail or file.read(1 << 20)


def _is_first_element(start: bytes) -> bool:
    """Whether `start` is plausible as the first element of a data set without preamble.

    Its group is 2 or 8, its element number below 0x20, and it has a known value representation
    or, in implicit encoding, a short length.
    """
    if len(start) < 8:
        return False
    for order, groups in (("<", (2, 8)), (">", (8,))):
        group, element, vr, _ = struct.unpack(f"{order}HH2sH", start)
        if group not in groups or element >= 0x20:
            continue
        (length,) = struct.unpack("<L", start[4:])
        if vr in _FIRST_VRS or (order == "<" and length <= 64):
            return True
    return False


def _name_transfer_syntax(dataset: Dataset) -> None:
    """Fill in the Transfer Syntax UID that a file without file meta information leaves out."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _SYNTAX_OF_ENCODING[dataset.original_encoding]


def _end_of_fragments(file: BinaryIO, start: int) -> int:
    """Where encapsulated pixel data that start at byte `start` must end (PS3.5 A.4)."""
    file.seek(start)
    _, offsets = parse_fragments(file)
    if not offsets:
        raise EOFError
    file.seek(offsets[-1] + 4)
    (length,) = struct.unpack("<L", file.read(4))
    return int(file.tell() + length + _DELIMITER_LENGTH)


def _expect_size(file: BinaryIO, end: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size < end:
        raise ImageError(Reason.UNREADABLE, f"truncated: expected {end} bytes or more, found {size}")
