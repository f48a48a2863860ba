"""Objects in the form in which a peer takes them: a deflated data set as it is, or in Explicit VR Little Endian."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_dicom.dicom.files import inflated, transfer_syntax


@contextmanager
def plain(path: Path) -> Iterator[Path]:
    """Lend a file in place of one whose data set is deflated; any other is lent as it is.

    It lies on the same disk, which may be an encrypted one, and has no name: nothing of it stays, however this ends.

    Raises
    ------
    ImageError
        If it cannot be read.
    OSError
        If there is no room for the other.
    """
    if transfer_syntax(path) != DeflatedExplicitVRLittleEndian:
        yield path
        return
    with TemporaryFile(dir=path.parent) as copy:
        copy.writelines(inflated(path))
        copy.seek(0)
        yield Path(f"/dev/fd/{copy.fileno()}")


def expect_whole(path: Path) -> None:
    """Inflate a file whose data set is deflated, to see that nothing of it is missing, and keep nothing.

    Raises
    ------
    ImageError
        If it is damaged.
    """
    deque(inflated(path), maxlen=0)
