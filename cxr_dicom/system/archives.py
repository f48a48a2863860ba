"""ZIP archives of strangers: how long the list of one is, before it is read."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from cxr_dicom.errors import CxrDicomError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OSError)
_MAX_DIRECTORY_BYTES = 1 << 22
_END = struct.Struct("<4s4H2LH")  # end of central directory record (APPNOTE.TXT 4.3.16)
_MAX_COMMENT = 0xFFFF
_ZIP64_LOCATOR = b"PK\x06\x07"
_LOCATOR_BYTES = 20


class ArchiveRefusedError(CxrDicomError):
    """An archive is not taken, or no further."""


def expect_small_directory(path: Path, max_files: int) -> None:
    """Check how long the list of an archive says it is, before all of it is read.

    Raises
    ------
    ArchiveRefusedError
        If it is too long, or cannot be found.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size - _MAX_COMMENT - _LOCATOR_BYTES))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise ArchiveRefusedError("UNREADABLE: expected a whole archive, found no list of its files")
    _, _, _, _, files, directory, _, _ = _END.unpack_from(tail, place)
    if _ZIP64_LOCATOR in tail[max(0, place - _LOCATOR_BYTES) : place] or files > max_files:
        raise ArchiveRefusedError(too_many(max_files))
    if directory > _MAX_DIRECTORY_BYTES:
        raise ArchiveRefusedError(f"TOO_LONG: expected a list of at most {_MAX_DIRECTORY_BYTES >> 20} MB, found more")


def too_many(most: int) -> str:
    """Say that an archive has more files than may be."""
    return f"TOO_LONG: expected at most {most} files in an archive, found more"
