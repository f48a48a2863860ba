"""Files as the body of a store request: streamed, and of a length that is known beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

FORMS = (
    'multipart/related; type="application/dicom"',
    "multipart/related; type=application/dicom",
    "application/dicom",
)
ONE_FILE = 2  # the form that holds no more


class Upload:
    """A file object for ``requests``, used as a context manager.

    Parameters
    ----------
    paths
        Files; they are open until the end.
    form
        One of `FORMS`: parts of a multipart body (RFC 2046 5.1) as PS3.18 10.5 wants it, with a type in the
        way of older servers, or one file by itself, which Azure takes too. No part names its transfer syntax: the
        file meta information does, and has precedence (PS3.18 8.7.9), and Orthanc leaves out a part that does.

    Attributes
    ----------
    headers
        Of the request.

    Raises
    ------
    OSError
        If a file cannot be opened.
    """

    def __init__(self, paths: Sequence[Path], form: str = FORMS[0]) -> None:
        self.headers = {"Content-Type": form}
        between = begin = end = b""
        if form.startswith("multipart"):
            boundary = uuid.uuid4().hex
            self.headers["Content-Type"] += f"; boundary={boundary}"
            begin = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            between, end = b"\r\n" + begin, f"\r\n--{boundary}--\r\n".encode()
        with ExitStack() as opening:
            files = [opening.enter_context(path.open("rb")) for path in paths]
            sizes = [path.stat().st_size for path in paths]
            for file in files:
                file.seek(0)  # where what has no name is opened again (/dev/fd), some systems go on behind it
            self._opened = opening.pop_all()
        heads = [begin, *[between] * (len(files) - 1)]
        self._size = sum(sizes) + sum(map(len, heads)) + len(end)
        self._pieces = _pieces(list(zip(heads, files, sizes, strict=True)), end)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def __len__(self) -> int:
        """Return the Content-Length."""
        return self._size

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, whose size is ours to choose; empty at the end.

        Raises
        ------
        ImageError
            If a file cannot be read to its end. It is no `OSError`, which would pass for trouble with the network.
        """
        return next(self._pieces, b"")


def _pieces(parts: Iterable[tuple[bytes, BinaryIO, int]], end: bytes) -> Iterator[bytes]:
    """Yield what stands before each file, and the file; at last ``end``. An empty piece would be the end."""
    for head, file, size in parts:
        if head:
            yield head
        yield from _read(file, size)
    if end:
        yield end


def _read(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        try:
            piece = file.read(min(left, 1 << 18))
        except OSError as error:
            raise ImageError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
        if not piece:
            raise ImageError(Reason.UNREADABLE, f"expected {size} bytes, the file is shorter")
        left -= len(piece)
        yield piece
