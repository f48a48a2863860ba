"""The folder that everything received and made lies in, durably.

::

    spool.lock           held by the one service that uses the folder
    ledger.sqlite        see the ledger
    audit.jsonl          see the audit trail
    part/                files that are being written; emptied at each start
    sources/<study>/     received images, exactly as they came
    objects/<study>/     what was made of them
    unknown/             files that nobody knows; only a person deletes them

A file is in ``sources`` or ``objects`` only when it is whole and on the disk. Files are for their
owner only: mode 0600 in folders of 0700.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import EncodedObject, StoredInstance
from cxr_dicom.system import atomic, lock

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SHOWN = "shown.json"  # the rows and pictures of a study, for pages
_FOLDERS = ("part", "sources", "objects")


class SpoolError(CxrDicomError):
    """The spool cannot be used: another service has it, or it cannot be written."""


class SpoolFullError(SpoolError):
    """Less space is free on the disk than the settings want."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file that is whole and on the disk, but has no place yet."""

    path: Path
    sha256: str


class PartFile:
    """A file that is being written; it becomes a `Part`, or nothing stays of it.

    Raises
    ------
    SpoolFullError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._path = folder / uuid.uuid4().hex
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, atomic.FILE_OF_OWNER)
        except OSError as error:
            raise _full(error) from error
        self._file = os.fdopen(descriptor, "wb")
        self._digest = hashlib.sha256()

    def write(self, chunk: Buffer) -> None:
        """Add to the file.

        Raises
        ------
        SpoolFullError
            If the disk is full.
        """
        self._digest.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _full(error) from error

    def finish(self) -> Part:
        """Return when all of it is on the disk.

        Raises
        ------
        SpoolFullError
            If the disk is full; then the file is gone.
        """
        try:
            self._file.flush()
            atomic.sync_open(self._file.fileno())
            self._file.close()
        except OSError as error:
            self.drop()
            raise _full(error) from error
        return Part(path=self._path, sha256=self._digest.hexdigest())

    def drop(self) -> None:
        """Delete it."""
        with contextlib.suppress(OSError):  # what is still in the buffer may not fit on the disk
            self._file.close()
        self._path.unlink(missing_ok=True)


def _full(error: OSError) -> SpoolFullError:
    return SpoolFullError(f"cannot write to the spool: {error.strerror}")


class Spool:
    """The spool folder; safe to share between threads and processes.

    Raises
    ------
    SpoolError
        If the folder cannot be made or written.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.spool.folder.absolute()
        self._min_free = settings.spool.min_free_mb * 2**20
        self._lock: int | None = None
        try:
            for folder in (self.folder, *(self.folder / name for name in _FOLDERS)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise SpoolError(f"spool.folder = {self.folder}: {error.strerror}") from error

    # --- one service at a time -------------------------------------------------------------------

    def lock(self) -> None:
        """Become the only user; the lock ends with `unlock` or with this process, however it ends.

        Raises
        ------
        SpoolError
            If another process has it, whose number the text has; or this system has no such locks.
        """
        try:
            self._lock = lock.take(self.folder / "spool.lock")
        except lock.LockedError as error:
            raise SpoolError(f"{self.folder} is in use by another service, process {error}") from error
        except ImportError as error:
            needs = "`serve` and `poll` need Linux or macOS, for file locks (fcntl)"
            raise SpoolError(f"{needs}; on this system `cxr-dicom run` works") from error
        except OSError as error:
            raise SpoolError(f"{self.folder} cannot be locked: {error.strerror}") from error

    def unlock(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- files in --------------------------------------------------------------------------------

    def require_space(self) -> None:
        """Check the watermark.

        Raises
        ------
        SpoolFullError
            If less than ``spool.min_free_mb`` is free.
        """
        free = shutil.disk_usage(self.folder).free
        if free < self._min_free:
            raise SpoolFullError(f"expected {self._min_free >> 20} MB free, found {free >> 20} MB")

    def begin(self) -> PartFile:
        """Open a file for something that arrives.

        Raises
        ------
        SpoolFullError
            If the disk is fuller than the settings want.
        """
        self.require_space()
        return PartFile(self.folder / "part")

    def write_part(self, chunks: Iterable[bytes]) -> Part:
        """Write a file that is on the disk when this returns.

        Raises
        ------
        SpoolFullError
            If the disk is full, or fuller than the settings want.
        """
        file = self.begin()
        try:
            for chunk in chunks:
                file.write(chunk)
        except BaseException:
            file.drop()
            raise
        return file.finish()

    def keep(self, part: Part, instance: StoredInstance) -> StoredInstance:
        """Give a part its place among the sources.

        The name holds the content's digest: the same UID with other content never overwrites a file
        that a worker may be reading.
        """
        name = f"{instance.sop_instance_uid}.{part.sha256[:16]}.dcm"
        return replace(instance, path=self._placed(part.path, "sources", instance.study_instance_uid, name))

    def drop(self, part: Part) -> None:
        """Delete a part that is not wanted."""
        part.path.unlink(missing_ok=True)

    # --- objects ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give an empty folder for one job; what is left in it is deleted."""
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=self.folder / "part"))  # mode 0700
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, study_instance_uid: str, objects: Iterable[EncodedObject]) -> list[EncodedObject]:
        """Give objects their places; bytes that are already there, and perhaps sent, stay.

        The folder is synced once, and a file that was synced when it was written costs no wait for the disk.
        """
        kept = []
        for made in objects:
            path = self._study_folder("objects", study_instance_uid) / f"{made.sop_instance_uid}.dcm"
            if not path.exists():
                if stat.S_IMODE(made.path.stat().st_mode) != atomic.FILE_OF_OWNER:
                    made.path.chmod(atomic.FILE_OF_OWNER)
                atomic.sync(made.path)
                self._placed(made.path, "objects", study_instance_uid, path.name, is_last=False)
            kept.append(replace(made, path=path))
        if kept:
            atomic.sync_folder(kept[0].path.parent)
        return kept

    def keep_shown(self, study_instance_uid: str, text: str) -> Path:
        """Write what pages show of a study beside its objects, in place of what was there."""
        path = self._study_folder("objects", study_instance_uid) / _SHOWN
        with atomic.open_text(path, mode=0o600) as file:
            file.write(text)
        return path

    # --- files out -------------------------------------------------------------------------------

    def delete(self, paths: Iterable[Path]) -> None:
        """Delete files, and folders that become empty."""
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()

    def clear_workspaces(self, process: int) -> None:
        """Delete the workspaces of a process that is dead."""
        for folder in (self.folder / "part").glob(f"{process}.*"):
            shutil.rmtree(folder, ignore_errors=True)

    def clear_parts(self) -> None:
        """Delete what was being written when a crash came; nothing of it was acknowledged."""
        for entry in (self.folder / "part").iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def files(self) -> set[Path]:
        """Return every file among sources and objects."""
        return {path for name in ("sources", "objects") for path in (self.folder / name).glob("*/*")}

    def set_aside(self, path: Path) -> Path:
        """Move a file that nobody knows to ``unknown/``, below the same names; return where it lies now."""
        inside = path.relative_to(self.folder)
        target = self.folder / "unknown" / inside
        for number in itertools.count(1):
            if not os.path.lexists(target):
                break
            target = self.folder / "unknown" / inside.with_name(f"{inside.name}.{number}")
        atomic.make_folder(self.folder / "unknown", mode=0o700)
        atomic.make_folder(target.parent.parent, mode=0o700)
        atomic.make_folder(target.parent, mode=0o700)
        atomic.place(path, target)
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()
        return target

    def set_aside_now(self) -> int:
        """Count what lies in ``unknown/``."""
        return sum(1 for _ in (self.folder / "unknown").glob("*/*/*"))

    def _placed(self, written: Path, kind: str, study_instance_uid: str, name: str, *, is_last: bool = True) -> Path:
        """Give a file that is on the disk its place; its folder may go at any time while it is empty (`delete`)."""
        while True:
            path = self._study_folder(kind, study_instance_uid) / name
            try:
                atomic.place(written, path, is_last=is_last)
            except FileNotFoundError:
                if not written.exists():
                    raise
            else:
                return path

    def _study_folder(self, kind: str, study_instance_uid: str) -> Path:
        folder = self.folder / kind / study_instance_uid
        atomic.make_folder(folder, mode=0o700)
        return folder
