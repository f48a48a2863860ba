"""What a client accepts, and parts of an answer of several (PS3.18 8.7)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from urllib.request import parse_http_list

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from starlette.responses import StreamingResponse

from cxr_dicom.web.answers import NotAnsweredError

OCTETS = "application/octet-stream"
DICOM = "application/dicom"
JSON = "application/dicom+json"
_ANY = ("*/*", "")
_MAX_ACCEPTED = 32
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_TYPES: dict[str, str] = {  # Table 8.7.3-5
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
    RLELossless: "image/dicom-rle",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A media type, and the transfer syntax of what has it."""

    media_type: str
    syntax: str

    def __str__(self) -> str:
        """As it stands in Content-Type."""
        return f"{self.media_type}; transfer-syntax={self.syntax}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """One of the forms that a client accepts."""

    is_multipart: bool
    media_type: str
    syntax: str

    @classmethod
    def all_of(cls, header: str) -> list[Accepted]:
        """Read an Accept header; none is all."""
        return [cls._of(each) for each in parse_http_list(header or "*/*")[:_MAX_ACCEPTED]]

    @classmethod
    def _of(cls, text: str) -> Accepted:
        message = Message()
        message["content-type"] = text
        outer = text.partition(";")[0].strip().lower()
        syntax = str(message.get_param("transfer-syntax") or "")
        if outer == "multipart/related":
            return cls(is_multipart=True, media_type=str(message.get_param("type") or "").lower(), syntax=syntax)
        return cls(is_multipart=False, media_type=outer, syntax=syntax)

    @property
    def is_anything(self) -> bool:
        """Whether any media type will do."""
        return self.media_type in _ANY


def frame_form(syntax: UID) -> Form:
    """Return the form in which frames are had: as they are stored."""
    if syntax in _NATIVE:
        return Form(media_type=OCTETS, syntax=ExplicitVRLittleEndian)  # bytes of pixels are the same in all three
    return Form(media_type=_TYPES.get(syntax, OCTETS), syntax=syntax)


def chosen(form: Form, accept: str) -> Accepted:
    """Return what a client accepts of a form in which something is had.

    Raises
    ------
    NotAnsweredError
        If it accepts nothing of it: nothing is transcoded here.
    """
    is_native = form.syntax == ExplicitVRLittleEndian
    for each in Accepted.all_of(accept):
        is_type = each.is_anything or each.media_type == form.media_type
        is_octets = each.media_type == OCTETS and (is_native or each.syntax != "")
        is_syntax = each.syntax in ("", "*", form.syntax)
        if (is_type or is_octets) and is_syntax:
            return each
    raise NotAnsweredError(406, f"This can be had as {form}, as it is stored.")


def expect_json(accept: str) -> None:
    """Refuse a client that does not accept JSON."""
    if not any(
        each.media_type in (JSON, "application/json", *_ANY, "application/*") for each in Accepted.all_of(accept)
    ):
        raise NotAnsweredError(406, f"This can be had as {JSON}.")


def multipart(form: Form, parts: Iterable[Iterable[bytes]]) -> StreamingResponse:
    """Answer with parts, each in pieces."""
    boundary = secrets.token_hex(16)
    kind = f'multipart/related; type="{form.media_type}"; boundary={boundary}'
    return StreamingResponse(_joined(form, parts, boundary), headers={"Content-Type": kind})


def _joined(form: Form, parts: Iterable[Iterable[bytes]], boundary: str) -> Iterator[bytes]:
    for part in parts:
        yield f"--{boundary}\r\nContent-Type: {form}\r\n\r\n".encode()
        yield from part
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
