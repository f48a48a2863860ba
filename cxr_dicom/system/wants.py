"""What this machine lacks, where that is why something failed: no fault of a study, and gone when somebody helped."""

from __future__ import annotations

import errno
from pathlib import Path

import psutil

from cxr_dicom.errors import WantError
from cxr_dicom.system.limits import is_memory_bounded

_LACKS = {
    errno.ENOSPC: "room on its disk",
    errno.EDQUOT: "room on its disk",
    errno.EROFS: "permission to write",
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.ENOMEM: "memory",
}
_MEMORY_IN_USE = 90.0  # per cent; with less in use it was the study that asked for too much


def raise_if_lacking(error: BaseException, folder: Path | None = None) -> None:
    """Raise what this machine lacks in place of ``error``, if it lacks something.

    Parameters
    ----------
    folder
        Of ours: permission is wanting there only. Anywhere else it is somebody's decision about one file.

    Raises
    ------
    WantError
        Naming it.
    """
    if what := _lack(error, folder):
        raise WantError(f"this machine lacks {what}; what is finished is kept, and the rest goes on when there is some")


def _lack(error: BaseException, folder: Path | None) -> str:
    if isinstance(error, PermissionError):
        is_ours = folder is not None and error.filename and Path(str(error.filename)).is_relative_to(folder)
        return f"permission to write in {folder}" if is_ours else ""
    if isinstance(error, MemoryError):
        is_full = not is_memory_bounded() and psutil.virtual_memory().percent > _MEMORY_IN_USE
        return "memory" if is_full else ""  # beyond a bound of ours it was the study, however full the machine is
    return _LACKS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
