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
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cxr_dicom.dicom.deflate import Inflating, inflate
from cxr_dicom.dicom.private_parts import read_file_meta_info
from cxr_dicom.dicom.structure import (
    MOST_BYTES,
    MOST_ELEMENTS,
    PIXEL_TAGS,
    UNDEFINED_LENGTH,
    Place,
    Walk,
    refused,
    too_long,
)
from cxr_dicom.dicom.text import readings
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

_CHARACTER_SET = Tag("SpecificCharacterSet")
_PREAMBLE_LENGTH = 132
_ELEMENT_HEAD_LENGTH = 8
_MOST_META = 1 << 16  # bytes
_BUFFER = 2 * _MOST_META  # what comes before the pixel data is mostly read at once
MOST_FILE_BYTES = 1 << 30  # 50 megapixels of 16 bits are 100 MB; a file with holes may have more than the disk
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA")  # of the elements that may come first
_SYNTAX_OF_ENCODING = {  # by whether it is implicit, and whether it is little endian
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

_LONGEST_NAME = 64  # characters of LO (PS3.5 6.2)

_tag = lru_cache(maxsize=1024)(Tag)  # pydicom first tries to read a keyword as a number

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
    pixel_start: int | None = (
        None  # where they begin in the file, in bytes; None when it is deflated or they are absent
    )

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
        tag = _tag(keyword)
        if tag not in dataset:
            return []
        text = readings(dataset, tag)
        value = dataset[tag].value if text is None else text
    except PARSING_ERRORS:
        return []
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def machine_name(dataset: Dataset, keyword: str) -> str:
    """Return a short text that names a machine, its maker or its place, without control characters; empty if none."""
    text = str(next(iter(values(dataset, keyword)), "")).strip()[:_LONGEST_NAME]
    return "".join(character for character in text if character.isprintable())


def read_header(path: Path, tags: Sequence[str] = (), *, most_elements: int = MOST_ELEMENTS) -> Header:
    """Read a file up to its pixel data, in time that grows with its bytes and within the bounds of `structure`.

    Parameters
    ----------
    path
        A file of any name.
    tags
        Keywords of the only attributes to keep; empty: all. No other value is read.
    most_elements
        How many elements, items and fragments the file may have.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``; a file whose end is missing is unreadable, unless it is deflated and only
        pixels are missing.
    """
    with _open(path, most_elements) as source:
        dataset, pixels = _read(source, [_tag(keyword) for keyword in tags])
        is_deflated = source.size is None
    return Header(
        dataset=dataset,
        pixel_keyword=keyword_for_tag(pixels.tag) if pixels else "",
        pixel_length=pixels.length if pixels and pixels.length != UNDEFINED_LENGTH else None,
        pixel_start=pixels.value if pixels and not is_deflated else None,
    )


def has_accession_number(path: Path, number: str) -> bool:
    """Whether a file says that it is of this order; one that is gone or damaged says nothing."""
    try:
        return read_header(path, ("AccessionNumber",)).text("AccessionNumber") == number.strip()
    except ImageError:
        return False


def read_whole(path: Path) -> Dataset:
    """Read a file with its pixel data; what comes after these is left out.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``, as `read_header`.
    """
    with _open(path, MOST_ELEMENTS) as source:
        dataset, pixels = _read(source, ())
        if pixels:
            source.file.seek(pixels.start)
            element = next(data_element_generator(source.file, source.is_implicit, source.is_little_endian))
            dataset[Tag(pixels.tag)] = element
    return dataset


def transfer_syntax(path: Path) -> UID:
    """Return the Transfer Syntax UID that a file states; empty where it states none.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``, if that cannot be read; no more is.
    """
    with _opened(path) as (_, meta):
        return UID(meta.get("TransferSyntaxUID", ""))


def inflated(path: Path) -> Iterator[bytes]:
    """Yield in pieces what a file with a deflated data set would hold in Explicit VR Little Endian (PS3.5 A.2, A.5).

    The data set is the same to the byte.

    Raises
    ------
    ImageError
        ``NOT_DICOM`` or ``UNREADABLE``, as `read_header`, at any piece.
    """
    with _opened(path) as (file, meta):
        head = DicomBytesIO(b"\0" * (_PREAMBLE_LENGTH - 4) + b"DICM")
        head.seek(_PREAMBLE_LENGTH)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        write_file_meta_info(head, meta)
        yield head.getvalue()
        yield from inflate(file)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """An open file, or what a deflated one unpacks to, and how its data set is encoded."""

    file: BinaryIO
    start: int  # of the data set
    size: int | None  # of the file; None: deflated, and zlib knows its own end, where that is read
    meta: FileMetaDataset
    is_implicit: bool
    is_little_endian: bool
    most_elements: int


def _read(source: _Source, wanted: Sequence[BaseTag]) -> tuple[Dataset, Place | None]:
    """Read the wanted elements before the pixel data; return where the pixel data are."""
    source.file.seek(source.start)
    walk = Walk(
        source.file,
        is_implicit=source.is_implicit,
        is_little_endian=source.is_little_endian,
        most_elements=source.most_elements,
    )
    kept = frozenset((*wanted, _CHARACTER_SET)) if wanted else frozenset()
    try:
        places = list(walk.elements(kept))
        pixels = places.pop() if places and places[-1].tag in PIXEL_TAGS else None
        if not places and pixels is None:
            raise EOFError
        if source.size is not None:
            _expect_size(source.size, walk, places, pixels)
    except EOFError as error:
        raise ImageError(
            Reason.UNREADABLE, "truncated: expected a data set, the file ends in it or before it"
        ) from error
    places = [place for place in places if place.is_sound and (not kept or place.tag in kept)]
    if sum(place.end - place.start for place in places) > MOST_BYTES:
        raise too_long()
    content = BytesIO()
    for place in places:
        source.file.seek(place.start)
        content.write(source.file.read(place.end - place.start))
    content.seek(0)
    elements = data_element_generator(content, source.is_implicit, source.is_little_endian)
    dataset = Dataset({element.tag: element for element in elements})
    stated = dataset.get("SpecificCharacterSet", default_encoding)
    character_set = stated if stated is default_encoding else convert_encodings(stated)
    dataset.set_original_encoding(source.is_implicit, source.is_little_endian, character_set)
    dataset.file_meta = source.meta
    return dataset, pixels


@contextmanager
def _open(path: Path, most_elements: int) -> Iterator[_Source]:
    """Open a file that looks like DICOM; errors of parsing become an ImageError."""
    with _opened(path) as (file, meta):
        yield _source(file, meta, most_elements)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, FileMetaDataset]]:
    """Open a file that looks like DICOM, which then stands at its data set; errors of parsing become an ImageError."""
    try:
        if not path.is_file():  # a named pipe would block
            raise ImageError(Reason.UNREADABLE, "expected a file, found none or something else")
        with path.open("rb", buffering=_BUFFER) as file:
            yield file, _meta(file)
    except OSError as error:
        raise ImageError(
            Reason.UNREADABLE, f"expected a readable file, got {error.strerror or 'an end within an element'}"
        ) from error
    except zlib.error as error:
        raise ImageError(Reason.UNREADABLE, "expected a deflated data set, found a damaged one") from error
    except PARSING_ERRORS as error:
        raise ImageError(Reason.UNREADABLE, f"expected a DICOM data set, got {type(error).__name__}") from error


def _meta(file: BinaryIO) -> FileMetaDataset:
    """Read the file meta information, up to the data set."""
    beginning = file.read(_PREAMBLE_LENGTH)
    _expect_dicom(beginning)
    if os.fstat(file.fileno()).st_size > MOST_FILE_BYTES:
        raise refused(f"at most {MOST_FILE_BYTES >> 20} MB in a file")
    start = file.seek(_PREAMBLE_LENGTH if beginning[128:] == b"DICM" else 0)
    stated = BytesIO(file.read(_MOST_META))
    meta = read_file_meta_info(stated)
    if stated.tell() == _MOST_META:
        raise refused(f"at most {_MOST_META} bytes of file meta information")
    if isinstance(meta.get("TransferSyntaxUID"), MutableSequence):
        raise refused("one Transfer Syntax UID")
    file.seek(start + stated.tell())
    return meta


def _source(file: BinaryIO, meta: FileMetaDataset, most_elements: int) -> _Source:
    """Find how the data set is encoded, as pydicom does."""
    start = file.tell()
    size: int | None = os.fstat(file.fileno()).st_size
    syntax = meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        file, start, size = Inflating(file), 0, None
    first = file.read(_ELEMENT_HEAD_LENGTH)
    has_vr = first[4:6].isalpha() and first[4:6].isupper()  # whatever the transfer syntax says
    is_little_endian = syntax != ExplicitVRBigEndian and (syntax is not None or not has_vr or first[1:2] < b"\4")
    if syntax is None:
        meta.TransferSyntaxUID = _SYNTAX_OF_ENCODING[not has_vr, is_little_endian]
    return _Source(
        file=file,
        start=start,
        size=size,
        meta=meta,
        is_implicit=not has_vr,
        is_little_endian=is_little_endian,
        most_elements=most_elements,
    )


def _expect_dicom(start: bytes) -> None:
    if start[128:] == b"DICM" or _is_first_element(start[:8]):
        return
    found = "an empty file" if not start else "something else"
    found = next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), found)
    raise ImageError(Reason.NOT_DICOM, f"expected 'DICM' at byte 128 or a first DICOM element, found {found}")


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


def _expect_size(size: int, walk: Walk, places: Sequence[Place], pixels: Place | None) -> None:
    """Refuse a file that ends before its last element does."""
    if pixels is None:
        end = places[-1].end
        if 0 < size - end < _ELEMENT_HEAD_LENGTH:  # the beginning of an element that is cut off
            end += _ELEMENT_HEAD_LENGTH
    else:
        end = pixels.end if pixels.length != UNDEFINED_LENGTH else walk.fragments(pixels.value)
    if size < end:
        raise ImageError(Reason.UNREADABLE, f"truncated: expected {end} bytes or more, found {size}")
