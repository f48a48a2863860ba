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
_UNMOVED = 65_000  # bytes that zlib packs before it moves its window of twice 32 kB along
_PIECE = 1 << 16  # bytes


def deflate(pieces: Iterable[bytes | memoryview], *, in_runs: bool = False) -> Iterator[bytes]:
    """Yield a data set packed, of an even number of bytes.

    Parameters
    ----------
    in_runs
        It is mostly runs of one byte, as outlined structures are: zlib need not look for anything else.
    """
    strategy = zlib.Z_RLE if in_runs else zlib.Z_DEFAULT_STRATEGY
    deflater, length = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY, strategy), 0
    for packed in _afresh(deflater, pieces) if in_runs else map(deflater.compress, pieces):
        length += len(packed)
        yield packed
    end = deflater.flush()
    yield end + b"\0" * ((length + len(end)) % 2)


def _afresh(deflater: zlib._Compress, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Pack without moving zlib's window and tables along, which takes as long as the rest of it."""
    room = _UNMOVED
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            part, rest = rest[:room], rest[room:]
            yield deflater.compress(part)
            room -= len(part)
            if not room:
                yield deflater.flush(zlib.Z_FULL_FLUSH)
                room = _UNMOVED


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
