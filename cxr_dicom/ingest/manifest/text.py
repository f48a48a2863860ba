"""Reading text that people and programs wrote, whatever it is; and saying what is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from cxr_dicom.errors import ManifestError

_MAX_LINE_LENGTH = 65_536  # characters; beyond it is no list
_HEAD = 65_536  # bytes
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CONTROL = frozenset(map(chr, range(32))) - set("\t\n\r\f")


def head_of(path: Path) -> bytes:
    """Read the beginning of a file.

    Raises
    ------
    ManifestError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise ManifestError(f"{path}: expected a readable file, got {error.strerror}") from error


def encoding_of(head: bytes) -> str | None:
    """Return the encoding of a text, or None for what is none."""
    encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)
    for candidate in [encoding] if encoding else ["utf-8", "cp1252"]:
        try:
            text = codecs.getincrementaldecoder(candidate)().decode(head)
        except UnicodeDecodeError:
            continue
        return None if _CONTROL & set(text) else candidate
    return None


def lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield the lines of a text with their ends.

    Raises
    ------
    ManifestError
        If it is no text after all, or a line is too long for one.
    """
    number = 0
    try:
        with path.open(encoding=encoding, newline="") as file:
            while line := file.readline(_MAX_LINE_LENGTH + 1):
                number += 1
                if len(line) > _MAX_LINE_LENGTH:
                    raise ManifestError(f"{path}: line {number}: expected at most {_MAX_LINE_LENGTH} characters")
                yield line
    except UnicodeError as error:
        raise ManifestError(f"{path}: after line {number}: expected text in {encoding}, found other bytes") from error
    except OSError as error:
        raise ManifestError(f"{path}: expected a readable file, got {error.strerror}") from error
