"""What writers that were killed left in an output folder: files that are not whole, and objects that no state names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from cxr_dicom.cohort import states
from cxr_dicom.cohort.delivery import WORKSPACE
from cxr_dicom.cohort.journal import Journal
from cxr_dicom.cohort.options import EXPORT_FOLDER
from cxr_dicom.cohort.session import Part
from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import STATE_FOLDER, is_uid
from cxr_dicom.ingest.manifest import WORKSPACE as FETCHED
from cxr_dicom.records import MANUFACTURER
from cxr_dicom.system import atomic

_OBJECT = re.compile(r"[a-z][a-z0-9_-]*-[0-9.]+\.dcm")  # as `encode.common.write` and `processing` name them


def sweep(out: Path, journal: Journal, part: Part | None) -> None:
    """Remove what killed sessions left, so that nobody uploads it with the rest.

    Only what an attempt says that it was writing is looked through; of a ``part``, only what belongs to it.
    """
    if part is None:
        for folder in (out, out / STATE_FOLDER):
            atomic.sweep(folder, older_than_seconds=0)
        for prefix in (WORKSPACE, FETCHED):
            for workspace in [*(out / STATE_FOLDER).glob(f"{prefix}*")]:
                shutil.rmtree(workspace, ignore_errors=True)
    begun = states.begun(out)
    of_us = {key: uids for key, uids in begun.items() if part is None or part.has(key)}
    if of_us and part is None and (out / EXPORT_FOLDER).is_dir():
        for folder in (out / EXPORT_FOLDER).iterdir():
            atomic.sweep(folder, older_than_seconds=0)
    for key, uids in of_us.items():
        tidy(out, journal, key, uids, is_alone=part is None)


def tidy(out: Path, journal: Journal, key: str, uids: Iterable[str], *, is_alone: bool) -> None:
    """Remove what attempts at an entry left that never ended.

    Parameters
    ----------
    uids
        What they wrote down.
    is_alone
        No other session may be writing to a study of another name than the entry's key.
    """
    for uid in {key, *uids} if is_uid(key) else set(uids):
        for folder in (out / EXPORT_FOLDER).glob(f"*/{uid}"):
            atomic.sweep(folder, "**/", older_than_seconds=0)
        folder = out / uid
        if (is_alone or uid == key) and folder.is_dir():
            atomic.sweep(folder, older_than_seconds=0)
            _remove_unnamed(out, folder, journal.named(uid))


def _remove_unnamed(out: Path, folder: Path, named: set[str]) -> None:
    for path in [*folder.iterdir()]:
        is_candidate = _OBJECT.fullmatch(path.name) and path.relative_to(out).as_posix() not in named
        if is_candidate and _is_ours(path):
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    try:
        return read_header(path, ("Manufacturer",)).text("Manufacturer") in (MANUFACTURER, WRAPPER)
    except ImageError:
        return False
