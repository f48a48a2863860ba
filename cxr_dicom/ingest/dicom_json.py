"""Bodies of DICOMweb: DICOM JSON (PS3.18 F) and XML (PS3.19 A.1) as servers write it, and the parts of multipart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message
from http import HTTPStatus
from typing import Any

import requests
from pydicom.datadict import keyword_for_tag

from cxr_dicom.dicom.native_model import dataset_of
from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.matching import Item, codes, unpadded
from cxr_dicom.system.reasons import own_words, values_of

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_LENGTHS = frozenset({"content-length", "transfer-encoding"})
_MOST_VALUES = 1000  # of one attribute
_LONGEST_HEAD = 1 << 16  # bytes of the headers of a part
_LONGEST_BOUNDARY = 70  # RFC 2046 5.1.1
_IMAGES = frozenset({"application/dicom", "application/octet-stream"})
_XML = "application/dicom+xml"
_MODEL = b"NativeDicomModel"
_NO_PARTS = re.compile(rb"--\S{1,70}--")
_PREFIX = slice(128, 132)


def items_of(answer: requests.Response) -> list[Item]:
    """Read an answer of QIDO-RS; what is no item becomes an empty one.

    Raises
    ------
    ConnectionFailedError
        If it is neither DICOM JSON nor XML of the Native DICOM Model, of which each part of the body has one item.
    """
    if not answer.content.strip():
        if answer.status_code != HTTPStatus.NO_CONTENT and not _LENGTHS & {name.lower() for name in answer.headers}:
            raise _no_json(answer)  # it may have broken off
        return []
    if _MODEL in answer.content or _XML in answer.headers.get("Content-Type", "").lower():
        models = list(_models(answer))
        if not models and not _NO_PARTS.fullmatch(answer.content.strip()):
            raise _no_json(answer)
        return [dict(_attributes(item)) for item in models]
    try:  # numbers stay text: one of thousands of digits is nobody's
        found = values_of(answer.content, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise _no_json(answer) from error
    if isinstance(found, Mapping) and any(_TAG.fullmatch(key) for key in found):
        found = [found]  # some send an only item by itself
    if not isinstance(found, list):
        raise _no_json(answer)
    return [dict(_attributes(item)) for item in found]


def _models(answer: requests.Response) -> Iterator[Any]:
    """Yield the data set of each part, whatever the body is declared as; None of a part that cannot be read."""
    body = answer.content.strip()
    parts = [b"\n\n" + body]
    if body.startswith(b"--"):
        parts = [part.replace(b"\r\n", b"\n") for part in body.split(body.split(maxsplit=1)[0])[1:]]
    for part in parts:
        if _MODEL in part:
            try:
                yield dataset_of(part.partition(b"\n\n")[2].strip())
            except ValueError:
                yield None


def _attributes(item: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for tag, element in item.items() if isinstance(item, Mapping) else ():
        if _TAG.fullmatch(tag) and (name := keyword_for_tag(int(tag, 16))):
            value = element.get("Value") if isinstance(element, Mapping) else element
            values = value if isinstance(value, list) else [value]
            texts = (text for each in values[:_MOST_VALUES] for text in _texts(each) if text)
            yield name, tuple(code for text in texts for code in codes(name, text) if code)


def _texts(value: Any) -> Iterator[str]:
    """Yield a value as text; each form of a person's name is one (PS3.18 F.2.2). What is nested deeper is none."""
    if isinstance(value, str):
        yield unpadded(value)
    elif isinstance(value, Mapping):
        yield from (unpadded(each) for each in value.values() if isinstance(each, str))


def _no_json(answer: requests.Response) -> ConnectionFailedError:
    code = answer.status_code
    kind = own_words(answer.headers.get("Content-Type", "nothing that says what it is"))
    return ConnectionFailedError(f"HTTP {code}", f"expected DICOM JSON from QIDO-RS, got {kind}", http_status=code)


def only_part(content_type: str, body: bytes) -> bytes:
    """Return the DICOM file in an answer of WADO-RS: the part of a multipart body that has one, or the whole body.

    Raises
    ------
    FetchError
        If it is something else: a page of text, no part, several.
    """
    header = Message()
    header["Content-Type"] = content_type
    kind, boundary = header.get_content_type(), header.get_boundary()
    if kind in _IMAGES:
        return _file(body)
    if not kind.startswith("multipart/") or not boundary or len(boundary) > _LONGEST_BOUNDARY:
        raise FetchError(f"expected a DICOM file, got {own_words(kind)}")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    begin = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter, 0, _LONGEST_HEAD)
    head = body.find(b"\n", begin + len(delimiter), begin + _LONGEST_HEAD) + 1
    line = b"\r\n" if body[head - 2 : head] == b"\r\n" else b"\n"  # some end their lines as Unix does
    start = head if body.startswith(line, head) else body.find(line * 2, head, head + _LONGEST_HEAD) + len(line)
    end = body.rfind(line + delimiter)
    if begin < 0 or head < 1 or start < len(line) or end < start:
        raise FetchError("expected a multipart body with one part")
    return _file(body[start + len(line) : end])


def _file(body: bytes) -> bytes:
    if body[_PREFIX] != b"DICM":
        raise FetchError("expected a DICOM file, got other bytes")
    return body
