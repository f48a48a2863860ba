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

from cxr_dicom.records.plane import Shape

_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_JPEG_START = b"\xff\xd8"  # SOI (ISO/IEC 10918-1 B.1.1.3)
_END_MARKER = b"\xff\xd9"  # EOI, EOC
_LONGEST_PADDING = 64
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF; 0xF7: JPEG-LS
_JPEG_LS, _SEQUENTIAL, _HUFFMAN = 0xF7, (0xC0, 0xC1), (0xC0, 0xC1, 0xC3)
_SCAN, _LAST_COEFFICIENT = 0xDA, 63
_AFTER_A_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # a marker that is no stuffing and no restart
_TAIL = 32  # bytes of entropy-coded data: more than a decoder reads ahead
_FOREIGN = b"\x55" * _TAIL

_Decode = Callable[[bytes], NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Codestream:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 code stream."""

    shape: Shape  # rows and columns
    precision: int  # bits of a sample
    is_signed: bool | None  # None: of the JPEG family, which knows no sign
    marker: int  # SOF of the JPEG family; 0 for JPEG 2000
    scan: int  # where the parameters of the first scan begin; 0 for JPEG 2000

    @property
    def bits_allocated(self) -> int:
        """Bits of a decoded word."""
        return 8 if self.precision <= 8 else 16


def read(frame: bytes) -> Codestream | None:
    """Read the frame header; None for what is none of the three, such as RLE.

    Raises
    ------
    LookupError, struct.error
        If it is cut off.
    """
    start = frame.find(_J2K_START, 0, 1024)  # a few writers put a JP2 header before it
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
        depth = frame[start + 42]  # Ssiz of the first component
        shape = bottom - top, right - left
        return Codestream(shape=shape, precision=(depth & 0x7F) + 1, is_signed=bool(depth & 0x80), marker=0, scan=0)
    if not frame.startswith(_JPEG_START):
        return None
    position, found = len(_JPEG_START), None
    while found is None or frame[position + 1] != _SCAN:
        if frame[position + 1] in _FRAME_MARKERS:
            found = frame[position + 1], *struct.unpack_from(">BHH", frame, position + 4)
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    marker, precision, rows, columns = found
    return Codestream(shape=(rows, columns), precision=precision, is_signed=None, marker=marker, scan=position + 4)


def repaired(frame: bytes, stream: Codestream) -> bytes:
    """Return a frame of the JPEG family so that strict decoders take it.

    A sequential scan that says it ends at coefficient 0 holds all 64 (ISO/IEC 10918-1 B.2.3; NEMA's
    own samples of 12 bits say so). A missing end marker is added: whether something else is missing,
    too, is seen by decoding.
    """
    if stream.marker in _SEQUENTIAL:
        end = stream.scan + 2 + 2 * frame[stream.scan]  # Ss, Se, Ah and Al follow the components
        if frame[end] == 0:
            frame = frame[:end] + bytes([_LAST_COEFFICIENT]) + frame[end + 1 :]
    return frame if has_end(frame) or not stream.marker else frame + _END_MARKER


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
