"""The SHA-256 of a file, the one way that this package takes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO


def sha256(content: Path | BinaryIO) -> str:
    """Return the SHA-256 of a file, in lower-case hexadecimal digits, without reading it into memory at once.

    Parameters
    ----------
    content
        Its path, or the file itself, opened for reading; it is read from where it stands to its end.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return sha256(file)
    return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # BinaryIO is narrower in typeshed
