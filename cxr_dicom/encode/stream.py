"""Data sets to bytes in Explicit VR Little Endian (PS3.5 7.1.2 and 7.5): those of pydicom, sooner.

pydicom's writer looks for ambiguous VRs anew at each level of nesting, and buffers each element on
its way: on the tree of a report that is most of the work. Here sequences, plain text, text as it was
read, single numbers and pixels are framed at once, an item that stands in many places only once, and a part that all
objects share (`shared`) once as long as it lives; every other element is left to pydicom.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from struct import Struct
from typing import BinaryIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, STR_VR, VR

from cxr_dicom.dicom.text import stored_text
from cxr_dicom.encode.shared import notes

_SHORT_HEAD, _LONG_HEAD, _ITEM_HEAD = Struct("<2H2sH"), Struct("<2H2s2xL"), Struct("<2HL")
_ITEM_TAG = 0xFFFE, 0xE000
_MAX_SHORT = 0xFFFF  # bytes of a value whose length has 16 bits
_BINARY: dict[str, Struct] = {VR.US: Struct("<H"), VR.UL: Struct("<L"), VR.FL: Struct("<f"), VR.FD: Struct("<d")}
_DECIMAL = frozenset({VR.DS, VR.IS})
_CHARACTER_SET = Tag("SpecificCharacterSet")


def write_dataset(file: BinaryIO, dataset: Dataset) -> None:
    """Write ``dataset``, whose VRs are not ambiguous, without its file meta information."""
    file.writelines(pieces(dataset))


def pieces(dataset: Dataset) -> Iterator[bytes | memoryview]:
    """Yield what `write_dataset` writes; pixels are the memory that they lie in."""
    return _Framing([default_encoding]).elements(dataset)


class _Framing:
    """Elements as bytes, in one character set."""

    def __init__(self, charset: list[str]) -> None:
        self._charset = charset
        self._items: dict[Hashable, bytes] = {}  # by id: some stand in many places of a report

    def elements(self, dataset: Dataset) -> Iterator[bytes | memoryview]:
        """Yield heads and values of a data set, which lives on with all in it."""
        framing = self
        if _CHARACTER_SET in dataset.keys():  # noqa: SIM118 - `in dataset` looks tags up by keyword
            framing = _Framing(convert_encodings(dataset.SpecificCharacterSet))
        for element in sorted(dataset.values(), key=_number):
            if text := stored_text(dataset, element.tag) if isinstance(element, RawDataElement) else None:
                content = text.value or b""
                yield from _framed(text.tag, text.VR or "", content + b" " * (len(content) % 2))
            else:
                whole = dataset[element.tag] if isinstance(element, RawDataElement) else element
                yield from framing._element(whole)

    def _element(self, element: DataElement) -> tuple[bytes | memoryview, ...]:
        content = self._content(element)
        if content is None or (element.VR in EXPLICIT_VR_LENGTH_16 and len(content) > _MAX_SHORT):
            return (self._by_pydicom(element),)
        return _framed(element.tag, element.VR, content)

    def _content(self, element: DataElement) -> bytes | memoryview | None:
        """The value of an element as bytes of even length; None where that is left to pydicom."""
        value = element.value
        if element.VR == VR.SQ and not element.is_undefined_length:
            return b"".join([self._item(item) for item in value])
        if isinstance(value, memoryview):
            return value
        if element.VR in _BINARY and isinstance(value, int | float):
            return _BINARY[element.VR].pack(value)
        if element.VR in _DECIMAL and isinstance(value, int | float):
            value = str(value)
        if element.VR in STR_VR and isinstance(value, str) and value.isascii():  # the same in every character set
            padding = "\0" if element.VR == VR.UI else " "
            return (value + padding * (len(value) % 2)).encode()
        return None

    def _item(self, item: Dataset) -> bytes:
        shared = notes(item)
        items, key = (self._items, id(item)) if shared is None else (shared, tuple(self._charset))
        if key not in items:
            content = b"".join(self.elements(item))
            items[key] = _ITEM_HEAD.pack(*_ITEM_TAG, len(content)) + content
        return items[key]

    def _by_pydicom(self, element: DataElement) -> bytes:
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = False, True
        write_data_element(stream, element, self._charset)
        return stream.getvalue()


def _framed(tag: int, vr: str, content: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    head = _SHORT_HEAD if vr in EXPLICIT_VR_LENGTH_16 else _LONG_HEAD
    return head.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(content)), content


def _number(element: DataElement | RawDataElement) -> int:
    return int(element.tag)  # plain integers compare faster than tags
