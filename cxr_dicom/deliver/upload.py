"""Files as the body of a store request: streamed, and of a length that is known beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from cxr_dicom.dicom.files import inflated
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

FORMS = (
    'multipart/related; type="application/dicom"',
    "multipart/related; type=application/dicom",
    "application/dicom",
)
ONE_FILE = 2  # the form that holds no more


@dataclass(frozen=True, slots=True)
class Part:
    """What is sent of a file."""

    size: int  # bytes
    pieces: Callable[[], Iterator[bytes]]  # none is empty; they may raise an ImageError


def as_it_is(path: Path) -> Part:
    """Send a file byte for byte.

    Raises
    ------
    OSError
        If there is none.
    """
    return Part(path.stat().st_size, partial(_read, path))


def in_plain(path: Path) -> Part:
    """Send a file whose data set is deflated in Explicit VR Little Endian; its size is found by inflating it once.

    Raises
    ------
    ImageError
        If it cannot be read to its end.
    """
    return Part(sum(map(len, inflated(path))), lambda: filter(None, inflated(path)))


class Upload:
    """A file object for ``requests``, used as a context manager.

    Parameters
    ----------
    parts
        What it holds.
    form
        One of `FORMS`: parts of a multipart body (RFC 2046 5.1) as PS3.18 10.5 wants it, with a type in the
        way of older servers, or one file by itself, which Azure takes too. No part names its transfer syntax: the
        file meta information does, and has precedence (PS3.18 8.7.9), and Orthanc leaves out a part that does.

    Attributes
    ----------
    headers
        Of the request.
    is_begun
        Whether anything was read, which happens when there is a connection.
    """

    def __init__(self, parts: Sequence[Part], form: str = FORMS[0]) -> None:
        self.headers = {"Content-Type": form}
        self.is_begun = False
        between = begin = end = b""
        if form.startswith("multipart"):
            boundary = uuid.uuid4().hex
            self.headers["Content-Type"] += f"; boundary={boundary}"
            begin = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            between, end = b"\r\n" + begin, f"\r\n--{boundary}--\r\n".encode()
        heads = [begin, *[between] * (len(parts) - 1)]
        self._size = sum(part.size for part in parts) + sum(map(len, heads)) + len(end)
        self._pieces = _pieces(list(zip(heads, parts, strict=True)), end)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pieces.close()  # and the file that is being read

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
        self.is_begun = True
        return next(self._pieces, b"")


def _pieces(parts: Iterable[tuple[bytes, Part]], end: bytes) -> Generator[bytes]:
    """Yield what stands before each part, and the part; at last ``end``. An empty piece would be the end."""
    for head, part in parts:
        if head:
            yield head
        left = part.size
        for piece in part.pieces():
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise ImageError(Reason.UNREADABLE, f"expected {part.size} bytes, the file has another length by now")
    if end:
        yield end


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 18):
                yield piece
    except OSError as error:
        raise ImageError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
