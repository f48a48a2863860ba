"""The body of a store request in parts, as they come (PS3.18 8.6.1.2, RFC 2046 5.1): nothing is gathered in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from email.message import Message

from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser

from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.dicomweb.media import DICOM

_MAX_BOUNDARY = 200  # characters; RFC 2046 5.1.1 has 70, and Orthanc sends 73
_MAX_HEADERS = 16  # of a part
_MAX_HEADER_BYTES = 1024
_PIECE = 1 << 16  # bytes that are looked through at a time: so many parts may end in them

Event = str | bytes | None  # media type: a part begins; bytes: of it; None: it ends


class Parts:
    """Finds the parts of a body.

    Raises
    ------
    NotAnsweredError
        If Content-Type is not that of a store request of DICOM files.
    """

    def __init__(self, content_type: str) -> None:
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_header_field": self._on_name,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_begin,
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(None),
                "on_end": self._on_end,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        self._events: list[Event] = []
        self._name = self._value = b""
        self._kind = ""
        self.is_whole = False  # the end of the last part was seen
        logging.getLogger("python_multipart").disabled = True  # it quotes what is wrong
        logging.getLogger("python_multipart.multipart").disabled = True

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Yield what some more of the body brings.

        Raises
        ------
        NotAnsweredError
            If it is not made of parts, with the boundary that was told.
        """
        for begin in range(0, len(chunk), _PIECE):
            try:
                self._parser.write(chunk[begin : begin + _PIECE])
            except ParseError:
                raise NotAnsweredError(400, "Expected parts between the boundary of Content-Type.") from None
            events, self._events = self._events, []
            yield from events

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._name.lower() == b"content-type":
            self._kind = self._value.decode("latin-1").partition(";")[0].strip().lower()
        self._name = self._value = b""

    def _on_begin(self) -> None:
        self._events.append(self._kind)
        self._kind = ""

    def _on_end(self) -> None:
        self.is_whole = True


class Whole:
    """A body that is one instance."""

    is_whole = False

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Yield what some more of the body brings."""
        if chunk and not self.is_whole:
            self.is_whole = True
            yield DICOM
        if chunk:
            yield chunk


def is_single(content_type: str) -> bool:
    """Whether a body is said to be one instance (PS3.18 8.6.1.1)."""
    message = Message()
    message["content-type"] = content_type
    return message.get_content_type() == DICOM


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    if message.get_content_type() != "multipart/related" or _parameter(message, "type").lower() != DICOM:
        raise NotAnsweredError(415, f'Expected multipart/related; type="{DICOM}", or {DICOM}.')
    boundary = _parameter(message, "boundary")
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise NotAnsweredError(400, f"Expected a boundary of 1 to {_MAX_BOUNDARY} characters in Content-Type.")
    return boundary.encode()


def _parameter(message: Message, name: str) -> str:
    found = message.get_param(name)
    return found if isinstance(found, str) else ""
