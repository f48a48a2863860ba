"""A file as the body of a store request: streamed, and of a length that is known beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
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


class Upload:
    """A file object for ``requests``, used as a context manager.

    Parameters
    ----------
    form
        One of `FORMS`: the only part of a multipart body (RFC 2046 5.1) as PS3.18 10.5 wants it, with a type in the
        way of older servers, or the file by itself, which Azure takes too.

    Attributes
    ----------
    headers
        Of the request.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, form: str = FORMS[0]) -> None:
        self._file: BinaryIO = path.open("rb")
        self._file.seek(0)  # where what has no name is opened again (/dev/fd), some systems go on behind it
        self._size = path.stat().st_size
        self._head, self._tail = b"", b""
        self.headers = {"Content-Type": form}
        if form.startswith("multipart"):
            boundary = uuid.uuid4().hex
            self.headers["Content-Type"] += f"; boundary={boundary}"
            self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._pieces = self._read()

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Return the Content-Length."""
        return len(self._head) + self._size + len(self._tail)

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, whose size is ours to choose; empty at the end.

        Raises
        ------
        ImageError
            If the file cannot be read to its end. It is no `OSError`, which would pass for trouble with the network.
        """
        return next(self._pieces, b"")

    def _read(self) -> Iterator[bytes]:
        if self._head:
            yield self._head
        left = self._size
        while left:
            try:
                piece = self._file.read(min(left, 1 << 18))
            except OSError as error:
                raise ImageError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
            if not piece:
                raise ImageError(Reason.UNREADABLE, f"expected {self._size} bytes, the file is shorter")
            left -= len(piece)
            yield piece
        if self._tail:
            yield self._tail
