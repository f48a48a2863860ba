"""Deflated data sets (PS3.5 A.5): packed and unpacked in pieces, and never more than all reason."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO

from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

MOST_INFLATED = 1 << 29  # bytes of a data set; no radiograph comes near
_LEVEL = 3  # of zlib: at 6 a map takes twice as long, and nearly half of the bytes
_MEMORY = 5  # of zlib, 1 to 9: tables that fit into the cache save an eighth of the time
_PIECE = 1 << 16  # bytes


def deflate(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield a data set packed, of an even number of bytes."""
    deflater, length = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY), 0
    for piece in pieces:
        packed = deflater.compress(piece)
        length += len(packed)
        yield packed
    end = deflater.flush()
    yield end + b"\0" * ((length + len(end)) % 2)


def inflate(file: BinaryIO) -> Iterator[bytes]:
    """Yield a data set unpacked, from where ``file`` stands.

    Raises
    ------
    ImageError
        ``UNREADABLE``: more than `MOST_INFLATED`.
    EOFError, zlib.error
        If it is damaged, or its end is missing.
    """
    inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    packed = file.read(_PIECE)
    while packed and not inflater.eof:
        piece = inflater.decompress(packed, _PIECE)
        length += len(piece)
        if length > MOST_INFLATED:
            raise ImageError(Reason.UNREADABLE, f"expected at most {MOST_INFLATED >> 20} MB when unpacked, found more")
        yield piece
        packed = inflater.unconsumed_tail or file.read(_PIECE)
    if not inflater.eof:
        raise EOFError


class Inflating(BytesIO):
    """A deflated data set to read, from where ``file`` stands; no more of it is unpacked than was asked for.

    Raises
    ------
    ImageError, EOFError, zlib.error
        When it is read, as `inflate`.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._pieces = inflate(file)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, or up to the end."""
        at, length = self.tell(), self.seek(0, 2)
        wanted = sys.maxsize if size is None or size < 0 else at + size
        while length < wanted and (piece := next(self._pieces, None)) is not None:
            length += self.write(piece)
        self.seek(at)
        return super().read(size)
