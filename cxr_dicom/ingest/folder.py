"""Files and folders on this machine to studies.

Every file that is found ends in exactly one place: in a study, or in the list of what was
skipped with its reason. Only a DICOMDIR is neither: it leads to the files that it names.
"""

from __future__ import annotations

import filecmp
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from cxr_dicom.dicom.files import Header, read_header, values
from cxr_dicom.dicom.pixels import is_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason, Skipped, StoredInstance, Study
from cxr_dicom.system.packed import Ordered

STATE_FOLDER = ".cxr-dicom"

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 9.1, but leading zeros are seen in archives
_MOST_ELEMENTS_OF_DICOMDIR = 1_000_000  # some 100,000 images
_Read = tuple[str, str, str, str, str]  # what `_instance` makes a `StoredInstance` of

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
    scanned = Scan(paths)
    return [*scanned.studies()], scanned.skipped


class Scan:
    """What `scan` finds, in little memory.

    Attributes
    ----------
    skipped
        As those of `scan`.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._skipped: list[tuple[int, Skipped]] = []
        instances = Ordered(self._without_twins(Ordered(self._read(_once(_files(map(str, paths)))))))
        self._studies = Ordered(_by_study(instances))
        self.skipped = [skipped for _, skipped in sorted(self._skipped, key=itemgetter(0))]

    def studies(self) -> Iterator[Study]:
        """Yield the studies of `scan`; each is made when its turn comes."""
        for _, instances in self._studies:
            made = tuple(map(_instance, instances))
            yield Study(study_instance_uid=made[0].study_instance_uid, instances=made)

    def _read(self, paths: Iterable[Path]) -> Iterator[tuple[str, int, _Read]]:
        """Yield each instance with its SOP Instance UID and the number of its file."""
        for number, path in enumerate(paths):
            try:
                instance = read_instance(path)
            except ImageError as error:
                self._skip(number, path, error.reason, error.detail)
                continue
            if instance:
                yield instance.sop_instance_uid, number, _read(instance)

    def _without_twins(self, found: Iterable[tuple[str, int, _Read]]) -> Iterator[tuple[str, int, _Read]]:
        """Yield each instance once, the best of its files, with its Study Instance UID and the number of the first."""
        for uid, files in groupby(found, itemgetter(0)):
            (_, first, kept), *twins = files
            for _, number, twin in twins:
                left_out, which = twin, "an earlier file"
                if _is_better(Path(twin[0]), Path(kept[0])):
                    kept, left_out, which = twin, kept, "a later file, whose pixels are whole"
                instance = _instance(left_out)
                detail = f"SOP Instance UID {uid} was read from {which}"
                self._skip(number, instance.path, Reason.DUPLICATE_INSTANCE, detail, instance)
            yield kept[1], first, kept

    def _skip(
        self, number: int, path: Path, reason: Reason, detail: str, instance: StoredInstance | None = None
    ) -> None:
        self._skipped.append((number, Skipped(path=path, reason=reason, detail=detail, instance=instance)))


def _by_study(instances: Iterable[tuple[str, int, _Read]]) -> Iterator[tuple[int, list[_Read]]]:
    """Yield the instances of each study, with the number of its first file."""
    for _, of_study in groupby(instances, itemgetter(0)):
        numbers, found = zip(*(each[1:] for each in of_study), strict=True)
        yield numbers[0], list(found)


def _read(instance: StoredInstance) -> _Read:
    return (
        str(instance.path),
        instance.study_instance_uid,
        instance.series_instance_uid,
        instance.sop_instance_uid,
        instance.sop_class_uid,
    )


def _instance(read: _Read) -> StoredInstance:
    path, study, series, image, sop_class = read
    return StoredInstance(
        path=Path(path),
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=image,
        sop_class_uid=sys.intern(sop_class),  # of few values
    )


def _is_better(twin: Path, kept: Path) -> bool:
    """Whether a file has whole pixels where an earlier one of the same instance has none, or damaged ones."""
    try:
        return not filecmp.cmp(twin, kept, shallow=False) and not is_whole(kept) and is_whole(twin)
    except OSError:
        return False  # a file that vanished meanwhile is reported when its turn comes


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID; only then may it become part of a path or an address."""
    return _UID.fullmatch(text) is not None


# --- files ---------------------------------------------------------------------------------------


def _files(paths: Iterable[str]) -> Iterator[str]:
    """Yield every file below `paths`, and every file that a DICOMDIR among them names."""
    for path in _walk(paths):
        yield path
        if path.rpartition(os.sep)[2].upper() == "DICOMDIR":
            yield from map(str, _referenced_files(Path(path)))


def _walk(paths: Iterable[str]) -> Iterator[str]:
    """Yield files, and what can neither be opened nor entered; each folder is entered once."""
    waiting, entered = list(paths), set()
    while waiting:
        path = waiting.pop()
        if not Path(path).is_dir():
            yield path
        elif (identity := _identity(path)) not in entered:
            entered.add(identity)
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        inside = entry.name if path == os.curdir else entry.path
                        if _is_folder(entry):
                            waiting += [inside] if entry.name != STATE_FOLDER else []
                        elif entry.name != STATE_FOLDER:
                            yield inside
            except OSError:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _once(paths: Iterable[str]) -> Iterator[Path]:
    """Yield `paths` in order, without those that lead to the same file as an earlier one."""
    files = Ordered((*_identity(path), _in_order(path), path) for path in paths)
    return (Path(path) for _, path in Ordered(next(same)[2:] for _, same in groupby(files, itemgetter(0, 1))))


def _in_order(path: str) -> str:
    """Return what sorts as the parts of a path do."""
    return os.path.normcase(path).replace(os.sep, "\0")


def _identity(path: str) -> tuple[int, int | str]:
    try:
        found = os.stat(path)  # noqa: PTH116  # a Path for each costs more
    except OSError:
        return -1, path
    return found.st_dev, found.st_ino


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
