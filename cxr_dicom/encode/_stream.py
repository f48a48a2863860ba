"""Data sets to bytes in Explicit VR Little Endian (PS3.5 7.1.2 and 7.5): those of pydicom, sooner.

pydicom's writer looks for ambiguous VRs anew at each level of nesting, and buffers each element on
its way: on the tree of a report that is most of the work. Here sequences, plain text and streams of
pixels are framed at once; every other element is left to pydicom.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from struct import Struct
from typing import BinaryIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, STR_VR, VR

_SHORT_HEAD, _LONG_HEAD, _ITEM_HEAD = Struct("<2H2sH"), Struct("<2H2s2xL"), Struct("<2HL")
_ITEM_TAG = 0xFFFE, 0xE000
_MOST_SHORT = 0xFFFF  # bytes of a value whose length has 16 bits


def write_dataset(file: BinaryIO, dataset: Dataset) -> None:
    """Write ``dataset``, whose VRs are not ambiguous, without its file meta information."""
    file.writelines(_elements(dataset, [default_encoding]))


def _elements(dataset: Dataset, charset: list[str]) -> Iterator[bytes | memoryview]:
    if "SpecificCharacterSet" in dataset:
        charset = convert_encodings(dataset.SpecificCharacterSet)
    for element in sorted(dataset.values(), key=_number):
        whole = dataset[element.tag] if isinstance(element, RawDataElement) else element
        yield from _element(whole, charset)


def _number(element: DataElement | RawDataElement) -> int:
    return int(element.tag)  # plain integers compare faster than tags


def _element(element: DataElement, charset: list[str]) -> Iterator[bytes | memoryview]:
    content, has_short_head = _content(element, charset), element.VR in EXPLICIT_VR_LENGTH_16
    if content is None or (has_short_head and len(content) > _MOST_SHORT):
        yield _by_pydicom(element, charset)
        return
    head = _SHORT_HEAD if has_short_head else _LONG_HEAD
    yield head.pack(element.tag >> 16, element.tag & 0xFFFF, element.VR.encode(), len(content))
    yield content


def _content(element: DataElement, charset: list[str]) -> bytes | memoryview | None:
    """The value of an element as bytes of even length; None where that is left to pydicom."""
    value = element.value
    if element.VR == VR.SQ and not element.is_undefined_length:
        return b"".join([_item(item, charset) for item in value])
    if isinstance(value, BytesIO):
        return value.getbuffer()
    if element.VR in STR_VR and isinstance(value, str) and value.isascii():  # the same in every character set
        padding = "\0" if element.VR == VR.UI else " "
        return (value + padding * (len(value) % 2)).encode()
    return None


def _item(item: Dataset, charset: list[str]) -> bytes:
    content = b"".join(_elements(item, charset))
    return _ITEM_HEAD.pack(*_ITEM_TAG, len(content)) + content


def _by_pydicom(element: DataElement, charset: list[str]) -> bytes:
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_data_element(stream, element, charset)
    return stream.getvalue()
