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
_JSON_TYPES = (JSON, "application/json")
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
    quality: float = 1.0  # how welcome it is; 0: not at all

    @classmethod
    def all_of(cls, header: str) -> list[Accepted]:
        """Read an Accept header, the most welcome first, without what is unwelcome (RFC 9110 12.5.1); none is all."""
        found = [cls._of(each) for each in parse_http_list(header or "*/*")[:_MAX_ACCEPTED]]
        unwelcome = {(each.is_multipart, each.media_type) for each in found if not each.quality}
        found = [each for each in found if each.quality and (each.is_multipart, each.media_type) not in unwelcome]
        return sorted(found, key=lambda each: -each.quality)

    @classmethod
    def _of(cls, text: str) -> Accepted:
        message = Message()
        message["content-type"] = text
        outer = text.partition(";")[0].strip().lower()
        syntax = str(message.get_param("transfer-syntax") or "")
        try:
            quality = min(1.0, max(0.0, float(str(message.get_param("q") or "1"))))
        except ValueError:
            quality = 1.0
        is_multipart = outer == "multipart/related"
        kind = str(message.get_param("type") or "").lower() if is_multipart else outer
        return cls(is_multipart=is_multipart, media_type=kind, syntax=syntax, quality=quality)

    @property
    def is_anything(self) -> bool:
        """Whether any media type will do."""
        return self.media_type in _ANY

    def includes(self, media_type: str) -> bool:
        """Whether a media type will do: this one, or one of a kind, as ``image/*``."""
        kind, _, name = self.media_type.partition("/")
        is_of_kind = name == "*" and media_type.startswith(f"{kind}/")
        return self.is_anything or is_of_kind or self.media_type == media_type


def instance_form(syntax: UID, accept: str) -> Form:
    """Return the form in which an instance is had: as it is stored; deflated for those only who take that."""
    if syntax == DeflatedExplicitVRLittleEndian:
        takes = any(each.syntax in ("*", syntax) for each in Accepted.all_of(accept))
        syntax = syntax if takes else ExplicitVRLittleEndian
    return Form(media_type=DICOM, syntax=str(syntax))


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
        is_type = each.includes(form.media_type)
        is_octets = each.media_type == OCTETS and (is_native or each.syntax != "")
        is_syntax = each.syntax in ("", "*", form.syntax)
        if (is_type or is_octets) and is_syntax:
            return each
    raise NotAnsweredError(406, f"This can be had as {form}, as it is stored.")


def expect_json(accept: str) -> None:
    """Refuse a client that does not accept JSON."""
    if not any(
        each.includes(kind) and not each.is_multipart for each in Accepted.all_of(accept) for kind in _JSON_TYPES
    ):
        raise NotAnsweredError(406, f"This can be had as {JSON}.")


def multipart(media_type: str, parts: Iterable[tuple[Form, Iterable[bytes]]]) -> StreamingResponse:
    """Answer with parts, each in its form and in pieces."""
    boundary = secrets.token_hex(16)
    kind = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return StreamingResponse(_joined(parts, boundary), headers={"Content-Type": kind})


def _joined(parts: Iterable[tuple[Form, Iterable[bytes]]], boundary: str) -> Iterator[bytes]:
    for form, part in parts:
        yield f"--{boundary}\r\nContent-Type: {form}\r\n\r\n".encode()
        yield from part
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
