"""Instances, frames and bulk data (WADO-RS, PS3.18 10.4): read from the file in pieces, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom.encaps import get_frame
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_dicom.dicom.files import PARSING_ERRORS, Header, inflated, read_whole, transfer_syntax
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.dicomweb.holdings import Held
from cxr_dicom.web.dicomweb.metadata import expect_little_endian

_PIECE = 256 * 1024  # bytes
_MAX_FRAMES = 1000  # of one request
_KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_NO_FRAME = "This instance has no such frame."


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The pixel data of an instance."""

    held: Held
    header: Header

    @classmethod
    def of(cls, held: Held) -> Pixels:
        """Find them.

        Raises
        ------
        NotAnsweredError
            If there are none.
        """
        header = held.header(_KEYWORDS)
        expect_little_endian(header)
        if not header.pixel_keyword:
            raise NotAnsweredError(404, "This instance has no pixels.")
        return cls(held=held, header=header)

    @property
    def count(self) -> int:
        """Number of frames, as the header says."""
        return max(1, self.header.integer("NumberOfFrames") or 1)

    @property
    def is_native(self) -> bool:
        """Whether they are not encapsulated."""
        return self.header.pixel_length is not None

    def frames(self, numbers: Sequence[int]) -> Iterator[Iterator[bytes]]:
        """Yield frames, each in pieces.

        Raises
        ------
        NotAnsweredError
            At once, if one is not there.
        """
        if any(not 1 <= number <= self.count for number in numbers):
            raise NotAnsweredError(404, _NO_FRAME)
        if not self.is_native:
            first = iter([self._encapsulated(numbers[0])])  # now, while an answer can still be a refusal
            return chain([first], (iter([self._encapsulated(number)]) for number in numbers[1:]))
        bits = self._bits()
        if max(numbers) * bits > 8 * (self.header.pixel_length or 0):
            raise NotAnsweredError(404, _NO_FRAME)
        return (self._native(number, bits) for number in numbers)

    def whole(self) -> Iterator[Iterator[bytes]]:
        """Yield all of them: each frame, where they are encapsulated, else their bytes as they are."""
        if not self.is_native:
            return self.frames(range(1, self.count + 1))
        return iter([self._bytes(0, self.header.pixel_length or 0)])

    def _bits(self) -> int:
        """Return the bits of a frame."""
        factors = [self.header.integer(keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
        bits = self.header.integer("SamplesPerPixel") or 1
        for factor in factors:
            bits *= factor or 0
        if bits <= 0:
            raise NotAnsweredError(404, _NO_FRAME)
        return bits

    def _native(self, number: int, bits: int) -> Iterator[bytes]:
        begin = (number - 1) * bits
        if bits % 8 == 0:
            return self._bytes(begin // 8, bits // 8)
        first, end = begin // 8, -(-(begin + bits) // 8)  # frames of single bits begin within a byte (PS3.5 8.1.1)
        packed = b"".join(self._bytes(first, end - first))
        unpacked = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
        return iter([np.packbits(unpacked[begin % 8 :][:bits], bitorder="little").tobytes()])

    def _bytes(self, begin: int, length: int) -> Iterator[bytes]:
        """Yield bytes of native pixel data."""
        if self.header.pixel_start is None:  # the file is deflated: nothing in it can be found without all before it
            element = read_whole(self.held.path)[Tag(self.header.pixel_keyword)]
            return iter([element.value[begin : begin + length]])
        return in_pieces(self.held.path, self.header.pixel_start + begin, length)

    def _encapsulated(self, number: int) -> bytes:
        offsets = self.header.values("ExtendedOffsetTable"), self.header.values("ExtendedOffsetTableLengths")
        extended = (offsets[0][0], offsets[1][0]) if all(offsets) else None
        assert self.header.pixel_start is not None  # noqa: S101 - encapsulated data are not deflated
        try:
            with self.held.path.open("rb") as file:
                file.seek(self.header.pixel_start)
                return get_frame(file, number - 1, extended_offsets=extended, number_of_frames=self.count)
        except PARSING_ERRORS:
            raise NotAnsweredError(404, _NO_FRAME) from None


def file_of(held: Held, syntax: str) -> Iterator[bytes]:
    """Yield the bytes of the file of an instance as they are, or of a deflated one in the other transfer syntax."""
    is_inflated = transfer_syntax(held.path) == DeflatedExplicitVRLittleEndian != syntax
    return inflated(held.path) if is_inflated else in_pieces(held.path)


def in_pieces(path: Path, begin: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Yield bytes of a file, to its end if no length is given."""
    with path.open("rb") as file:
        file.seek(begin)
        left = length
        while left is None or left > 0:
            piece = file.read(_PIECE if left is None else min(_PIECE, left))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece


def numbers_of(text: str) -> list[int]:
    """Read a list of numbers of frames."""
    parts = text.split(",")
    if len(parts) > _MAX_FRAMES or not all(part.isdecimal() and part.isascii() and len(part) < 10 for part in parts):
        raise NotAnsweredError(400, f"Expected at most {_MAX_FRAMES} numbers of frames, with commas.")
    return [int(part) for part in parts]


def value(held: Held, tag: int) -> bytes:
    """Return the bytes of an element other than the pixel data.

    Raises
    ------
    NotAnsweredError
        If there is no such element, or it has no bytes.
    """
    header = held.header((f"{tag:08X}",))
    expect_little_endian(header)
    try:
        found = header.dataset[Tag(tag)].value
    except PARSING_ERRORS:
        found = None
    if not isinstance(found, bytes):
        raise NotAnsweredError(404, "This instance has no such bulk data.")
    return found
