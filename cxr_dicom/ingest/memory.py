"""An image in memory, written to a temporary file while it is read.

Bytes, streams and data sets take the same way as files, so that the same checks apply. The file
is in a folder that only its owner can enter, and is removed at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol, TypeAlias

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxr_dicom.dicom.files import PARSING_ERRORS
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

MAX_BYTES = 1 << 29  # of one image; no radiograph comes near
_CHUNK = 1 << 20
_FIRST_ITEM = b"\xfe\xff\x00\xe0"  # of encapsulated pixel data (PS3.5 A.4)
_SYNTAX_OF_ENCODING: dict[tuple[bool | None, bool | None], UID] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


class Readable(Protocol):
    """A file that is open, or a stream, in binary mode."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""


InMemory: TypeAlias = bytes | bytearray | memoryview | Readable | Dataset


@contextmanager
def as_file(image: InMemory) -> Iterator[Path]:
    """Give the file of an image while the block runs.

    Parameters
    ----------
    image
        The bytes of a file; a binary stream, which is read from where it stands; or a data set, which
        is not changed. Without file meta information, a data set is written as it was read, or, if
        it never was, in Explicit VR Little Endian.

    Raises
    ------
    ImageError
        ``UNREADABLE`` for more than `MAX_BYTES`, ``UNDECODABLE_TRANSFER_SYNTAX`` for compressed pixel
        data of an unknown transfer syntax, ``INVALID_ATTRIBUTES`` for a data set that cannot be written.
    TypeError
        For anything else, and for a stream of text.
    """
    with TemporaryDirectory(prefix="cxr-dicom-") as folder:
        path = Path(folder) / "image.dcm"
        with path.open("xb") as file:
            if isinstance(image, bytes | bytearray | memoryview):
                _expect_few(memoryview(image).nbytes)
                file.write(image)
            elif isinstance(image, Dataset):
                _write(image, file)
            elif hasattr(image, "read"):
                _copy(image, file)
            else:
                accepted = "a path, bytes, a binary stream or a pydicom Dataset"
                raise TypeError(f"image: expected {accepted}, got {type(image).__name__}")
        yield path


def _copy(stream: Readable, file: BinaryIO) -> None:
    size = 0
    while chunk := stream.read(_CHUNK):
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"image: expected a stream of bytes, got one of {type(chunk).__name__}")
        size += len(chunk)
        _expect_few(size)
        file.write(chunk)


def _expect_few(size: int) -> None:
    if size > MAX_BYTES:
        raise ImageError(Reason.UNREADABLE, f"expected at most {MAX_BYTES >> 20} MB, found more")


def _write(dataset: Dataset, file: BinaryIO) -> None:
    try:
        copy = deepcopy(dataset)  # writing completes a data set; pixel data are shared
        meta = FileMetaDataset(getattr(copy, "file_meta", None) or Dataset())
        if not meta.get("TransferSyntaxUID"):
            meta.TransferSyntaxUID = _transfer_syntax(copy)
        copy.file_meta, copy.preamble = meta, b"\0" * 128
        dcmwrite(file, copy)
    except PARSING_ERRORS as error:
        expected = "expected a data set that can be written"
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"{expected}, got {type(error).__name__}") from error
    _expect_few(os.fstat(file.fileno()).st_size)


def _transfer_syntax(dataset: Dataset) -> UID:
    """Tell how a data set without file meta information is encoded."""
    pixels: Any = dataset.get("PixelData")
    if isinstance(pixels, bytes) and pixels.startswith(_FIRST_ITEM):
        expected = "expected file meta information that names how the pixel data are compressed"
        raise ImageError(Reason.UNDECODABLE_TRANSFER_SYNTAX, f"{expected}, found none")
    return _SYNTAX_OF_ENCODING.get(dataset.original_encoding, ExplicitVRLittleEndian)
