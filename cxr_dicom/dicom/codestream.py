"""What a compressed frame says of itself, and whether all of it is there.

Where bits lie is what the code stream says, not what the header repeats (PS3.5 8.2). Decoders make
up what a stream lacks, without a word; here the same decoder is asked twice instead.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
)

from cxr_dicom.records.plane import Shape

_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_JP2_START = b"\0\0\0\x0cjP  \r\n\x87\n"  # the signature box (I.5.1): a few writers put a file around the stream
_JPEG_START = b"\xff\xd8"  # SOI (ISO/IEC 10918-1 B.1.1.3)
_END_MARKER = b"\xff\xd9"  # EOI, EOC
_LONGEST_PADDING = 64
_JPEG_LS, _SEQUENTIAL, _HUFFMAN = 0xF7, (0xC0, 0xC1), (0xC0, 0xC1, 0xC3)
_FRAME_MARKERS = {*_HUFFMAN, 0xC2, 0xC9, 0xCA, 0xCB}  # SOF; the differential ones are of hierarchies, which have none
_SEGMENTS = {0xC4, 0xCC, 0xDA, 0xDB, 0xDD, 0xF8, *range(0xE0, 0xF0), 0xFE}  # that may stand before the first scan
_SCAN, _LAST_COEFFICIENT = 0xDA, 63
_MOST_SCANS = 128  # 64 coefficients in two steps; encoders make ten or less
_AFTER_A_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # a marker that is no stuffing and no restart
_TAIL = 32  # bytes of entropy-coded data: more than a decoder reads ahead
_FOREIGN = b"\x55" * _TAIL

_Decode = Callable[[bytes], NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Codestream:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 code stream."""

    start: int  # where it begins in the frame
    shape: Shape  # rows and columns
    precision: int  # bits of a sample
    is_signed: bool | None  # None: of the JPEG family, which knows no sign
    marker: int  # SOF of the JPEG family; 0 for JPEG 2000
    scan: int  # where the parameters of the first scan begin; 0 for JPEG 2000

    @property
    def bits_allocated(self) -> int:
        """Bits of a decoded word."""
        return 8 if self.precision <= 8 else 16


def read(frame: bytes, syntax: UID) -> Codestream | None:
    """Read the frame header as a decoder of the transfer syntax does: from the start, segment by segment.

    What a comment holds is no header, however much it looks like one.

    Returns
    -------
    Codestream or None
        None where another start is found than that of the transfer syntax.

    Raises
    ------
    ValueError, LookupError, struct.error
        If it is cut off, breaks the grammar, or has more components than the one of a radiograph.
    """
    if syntax in _JPEG_2000:
        return _jpeg_2000(frame)
    return _jpeg(frame, {_JPEG_LS} if syntax in JPEGLSTransferSyntaxes else _FRAME_MARKERS)


def _jpeg_2000(frame: bytes) -> Codestream | None:
    start = _inside_boxes(frame) if frame.startswith(_JP2_START) else 0
    if not frame.startswith(_J2K_START, start):
        return None
    right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    _expect_one(components)
    depth = frame[start + 42]  # Ssiz of the component
    return Codestream(
        start=start,
        shape=(bottom - top, right - left),
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
        marker=0,
        scan=0,
    )


def _inside_boxes(frame: bytes) -> int:
    """Return where the content of the code stream box begins (ISO/IEC 15444-1 I.4)."""
    position = 0
    while True:
        length, kind = struct.unpack_from(">L4s", frame, position)
        if kind == b"jp2c":
            return position + (16 if length == 1 else 8)  # 1: a longer length follows
        if length < 8:
            raise ValueError(f"expected a box of 8 bytes or more, found {length}")
        position += length


def _jpeg(frame: bytes, frame_markers: set[int]) -> Codestream | None:
    if not frame.startswith(_JPEG_START):
        return None
    position, found = len(_JPEG_START), None
    while True:
        while frame[position] == 0xFF and frame[position + 1] == 0xFF:  # fill bytes (B.1.1.2)
            position += 1
        prefix, marker, length = struct.unpack_from(">BBH", frame, position)
        if prefix != 0xFF or marker not in _SEGMENTS | frame_markers or length < 2:
            raise ValueError(f"expected a segment, found {prefix:02x} {marker:02x} of {length} bytes")
        if marker in frame_markers:
            if found:
                raise ValueError("expected one frame header, found two")
            found = marker, *struct.unpack_from(">BHHB", frame, position + 4)
        if marker == _SCAN:
            break
        position += 2 + length
    if found is None:
        raise ValueError("expected a frame header before the first scan, found none")
    marker, precision, rows, columns, components = found
    _expect_one(components)
    expect_few_scans(frame)
    return Codestream(
        start=0, shape=(rows, columns), precision=precision, is_signed=None, marker=marker, scan=position + 4
    )


def expect_few_scans(stream: bytes) -> None:
    """Count the scans of a JPEG, or what may be taken for one: a decoder goes over the whole picture with each.

    Raises
    ------
    ValueError
        If there are more than any encoder makes.
    """
    if (scans := stream.count(bytes((0xFF, _SCAN)))) > _MOST_SCANS:
        raise ValueError(f"expected {_MOST_SCANS} scans at most, found {scans}")


def _expect_one(components: int) -> None:
    if components != 1:
        raise ValueError(f"expected one component, found {components}")


def repaired(frame: bytes, stream: Codestream) -> bytes:
    """Return the code stream so that strict decoders take it, without what is around it.

    A sequential scan that says it ends at coefficient 0 holds all 64 (ISO/IEC 10918-1 B.2.3; NEMA's
    own samples of 12 bits say so). A missing end marker is added: whether something else is missing,
    too, is seen by decoding.
    """
    if stream.marker in _SEQUENTIAL:
        end = stream.scan + 2 + 2 * frame[stream.scan]  # Ss, Se, Ah and Al follow the components
        if frame[end] == 0:
            frame = frame[:end] + bytes([_LAST_COEFFICIENT]) + frame[end + 1 :]
    return frame[stream.start :] if has_end(frame) or not stream.marker else frame + _END_MARKER


def has_end(frame: bytes) -> bool:
    """Whether the end marker is there; a few bytes of padding may follow it, or very many zeros."""
    return _END_MARKER in frame.rstrip(b"\0")[-_LONGEST_PADDING:]


def is_exact(frame: bytes, stream: Codestream, decode: _Decode, decoded: NDArray[Any]) -> bool:
    """Whether a decoder reads all entropy-coded data of a Huffman JPEG, and would not read more.

    Decoders of JPEG-LS and JPEG 2000 look for themselves. Those of JPEG fill up what is missing, and
    stop where zeros or noise gave them all pixels: then the end of the data changes nothing.
    """
    if stream.marker not in _HUFFMAN:
        return True
    end = _AFTER_A_SCAN.search(frame, stream.scan)
    if end is None or frame[end.end() - 1 : end.end()] != _END_MARKER[1:]:
        return True  # several scans: not asked
    data, rest = frame[: end.start()], frame[end.start() :]
    longer = _same(decode, data + _FOREIGN + rest, decoded)
    shorter = _same(decode, data[:-_TAIL].rstrip(b"\xff") + _FOREIGN + rest, decoded)
    return longer and not shorter


def _same(decode: _Decode, frame: bytes, decoded: NDArray[Any]) -> bool:
    try:
        return bool(np.array_equal(decode(frame), decoded))
    except Exception:  # of foreign code, on data that are wrong on purpose
        return False
