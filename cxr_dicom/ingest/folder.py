"""Files and folders on this machine to studies.

Every file that is found ends in exactly one place: in a study, or in the list of what was
skipped with its reason. Only a DICOMDIR is neither: it leads to the files that it names.
"""

from __future__ import annotations

import filecmp
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from cxr_dicom.dicom.files import Header, read_header, values
from cxr_dicom.dicom.pixels import is_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason, Skipped, StoredInstance, Study

STATE_FOLDER = ".cxr-dicom"

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 9.1, but leading zeros are seen in archives
_MOST_ELEMENTS_OF_DICOMDIR = 1_000_000  # some 100,000 images
_SEPARATORS = re.compile(r"^\.\.?$|[/\\\0]")  # no File ID leads out of its file-set


def scan(paths: Sequence[Path]) -> tuple[list[Study], list[Skipped]]:
    """Find the DICOM instances in files and folders, however they are named.

    Parameters
    ----------
    paths
        Files and folders; folders are searched to any depth, links are followed once.

    Returns
    -------
    studies
        In the order of their first file; instances in the order of their paths.
    skipped
        Files that are no instance, and why, in the order of their paths.
    """
    scanned = _Scan()
    for path in _once(_files(paths)):
        scanned.add(path)
    return scanned.studies(), scanned.skipped


class _Scan:
    """What was found so far."""

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self._instances: dict[str, StoredInstance] = {}  # by SOP Instance UID, in the order of their first files

    def add(self, path: Path) -> None:
        """Read one file and put it where it belongs."""
        try:
            instance = read_instance(path)
        except ImageError as error:
            self.skipped.append(Skipped(path=path, reason=error.reason, detail=error.detail))
            return
        if instance is None:
            return
        kept = self._instances.setdefault(instance.sop_instance_uid, instance)
        if kept is instance:
            return
        if _is_better(instance, kept):
            self._instances[instance.sop_instance_uid] = instance
            kept, instance = instance, kept
            detail = f"SOP Instance UID {instance.sop_instance_uid} was read from a later file, whose pixels are whole"
        else:
            detail = f"SOP Instance UID {instance.sop_instance_uid} was read from an earlier file"
        self.skipped.append(
            Skipped(path=instance.path, reason=Reason.DUPLICATE_INSTANCE, detail=detail, instance=instance)
        )

    def studies(self) -> list[Study]:
        """Everything that is not skipped."""
        found: dict[str, list[StoredInstance]] = {}
        for instance in self._instances.values():
            found.setdefault(instance.study_instance_uid, []).append(instance)
        return [Study(study_instance_uid=uid, instances=tuple(instances)) for uid, instances in found.items()]


def _is_better(twin: StoredInstance, kept: StoredInstance) -> bool:
    """Whether a file has whole pixels where an earlier one of the same instance has none, or damaged ones."""
    try:
        return not filecmp.cmp(twin.path, kept.path, shallow=False) and not is_whole(kept.path) and is_whole(twin.path)
    except OSError:
        return False  # a file that vanished meanwhile is reported when its turn comes


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID; only then may it become part of a path or an address."""
    return _UID.fullmatch(text) is not None


# --- files ---------------------------------------------------------------------------------------


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield every file below `paths`, and every file that a DICOMDIR among them names."""
    for path in _walk(paths):
        yield path
        if path.name.upper() == "DICOMDIR":
            yield from _referenced_files(path)


def _walk(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and what can neither be opened nor entered; each folder is entered once."""
    waiting, entered = list(paths), set()
    while waiting:
        path = waiting.pop()
        if not path.is_dir():
            yield path
        elif (identity := _identity(path)) not in entered:
            entered.add(identity)
            try:
                waiting.extend(entry for entry in path.iterdir() if entry.name != STATE_FOLDER)
            except OSError:
                yield path


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield `paths` in order, without those that lead to the same file as an earlier one."""
    seen = set()
    for path in sorted(set(paths)):
        identity = _identity(path)
        if identity not in seen:
            seen.add(identity)
            yield path


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return path
    return found.st_dev << 128 | found.st_ino  # one number: there is one for each file


def _referenced_files(dicomdir: Path) -> Iterator[Path]:
    """Yield the files that the records of a DICOMDIR name (PS3.3 F.3.2.2)."""
    try:
        header = read_header(dicomdir, ("DirectoryRecordSequence",), most_elements=_MOST_ELEMENTS_OF_DICOMDIR)
        records = header.values("DirectoryRecordSequence")
    except ImageError:
        return  # the DICOMDIR itself is reported when its turn comes
    for record in records:
        components = [str(component) for component in values(record, "ReferencedFileID")]
        if components and not any(_SEPARATORS.search(component) for component in components):
            yield _on_disk(dicomdir.parent, components)


def _on_disk(folder: Path, components: Iterable[str]) -> Path:
    """Find a file whose File ID is in capitals, on media that were copied to small letters."""
    path = folder
    for component in components:
        exact = path / component
        if exact.exists() or not path.is_dir():
            path = exact
        else:
            same = (entry for entry in path.iterdir() if entry.name.upper() == component.upper())
            path = next(same, exact)
    return path


# --- instances -----------------------------------------------------------------------------------


def read_instance(path: Path) -> StoredInstance | None:
    """Read the identity of a file; None for a DICOMDIR.

    Raises
    ------
    ImageError
        ``NOT_DICOM``, ``UNREADABLE``, or ``INVALID_ATTRIBUTES`` for a file without proper UIDs.
    """
    return instance_of(read_header(path, IDENTITY), path)


def instance_of(header: Header, path: Path) -> StoredInstance | None:
    """Return the identity of a file from its header, which has the attributes of `IDENTITY`; see `read_instance`."""
    if values(header.dataset.file_meta, "MediaStorageSOPClassUID") == [MediaStorageDirectoryStorage]:
        return None
    uids = {keyword: header.text(keyword) for keyword in IDENTITY}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not is_uid(uids[keyword]):
            found = "an invalid value" if uids[keyword] else "none"
            raise ImageError(Reason.INVALID_ATTRIBUTES, f"{keyword}: expected a UID, found {found}")
    return StoredInstance(
        path=path,
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=sys.intern(uids["SOPClassUID"]),  # of few values
    )
