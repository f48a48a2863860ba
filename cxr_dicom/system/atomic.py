"""Files that are there whole or not at all: readers see the old file or the new one, never a part."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

UNFINISHED = f".*.{'[0-9a-f]' * 32}.part"  # names that `replacing` and ``encode`` give, as a pattern of glob


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to write, which becomes ``path`` when the block ends without an error.

    Its name is hidden, ends in ``.part`` and is taken by nobody else, on any machine of a shared folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a file for text in UTF-8, which is ``path`` when the block ends without an error."""
    with replacing(path) as part, part.open("x", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for bytes, which is ``path`` when the block ends without an error."""
    with replacing(path) as part, part.open("xb") as file:
        yield file
