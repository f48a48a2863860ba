"""Durable files: there whole or not at all, after a crash, a kill or a power cut, and the only way to write one.

A file is written under a name of its own, synced, renamed, and its folder is synced (fsync(2), rename(2)).
A reader sees the old file or the new one, never a part. What a kill leaves behind has a name that `sweep` knows.

What is written is about patients, so it is for its owner only, unless this process was told to `share`.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

UNFINISHED = f".*.{'[0-9a-f]' * 32}.part"  # names of what is not yet whole, as a pattern of glob
STALE_SECONDS = 86400.0  # nobody is still at work on what was not touched for so long
FILE_OF_ALL, FOLDER_OF_ALL = 0o666, 0o777  # narrowed by the umask
FILE_OF_OWNER, FOLDER_OF_OWNER = 0o600, 0o700
_FOLDERS = {FILE_OF_ALL: FOLDER_OF_ALL, FILE_OF_OWNER: FOLDER_OF_OWNER}  # that such a file is in
_CANNOT_SYNC_A_FOLDER = (errno.EBADF, errno.EINVAL, errno.ENOTSUP)  # some network file systems


_is_shared = False


def share(is_shared: bool) -> None:
    """Say whether what this process writes from now on is for others too, as far as the umask lets them."""
    global _is_shared
    _is_shared = is_shared


def file_mode() -> int:
    """Return the mode of what is written, before the umask."""
    return FILE_OF_ALL if _is_shared else FILE_OF_OWNER


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Give the path of an empty file to write, which durably becomes ``path`` when the block ends without an error.

    Its name is hidden, and taken by nobody else on any machine that shares the folder.

    Parameters
    ----------
    mode
        Of the file; the umask narrows it. None: for its owner only, or as `share` says. The folder is made as the file.

    Raises
    ------
    OSError
        If the file cannot be made, written or synced; then ``path`` is what it was.
    """
    mode = mode or file_mode()
    make_folder(path.parent, _FOLDERS.get(mode))
    part = _unfinished(path)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield part
        move(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_text(path: Path, mode: int | None = None) -> Iterator[TextIO]:
    """Open a file for text in UTF-8, which durably becomes ``path`` when the block ends without an error."""
    with replacing(path, mode) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def open_bytes(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a file for bytes, which durably becomes ``path`` when the block ends without an error."""
    with replacing(path, mode) as part, part.open("wb") as file:
        yield file


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside ``folder`` for what is not yet to be seen; it is deleted when the block ends."""
    make_folder(folder)
    inside = _unfinished(folder / "workshop")
    inside.mkdir(mode=0o700)
    try:
        yield inside
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def move(origin: Path, target: Path) -> None:
    """Give a file that is written its place, durably, on the same file system."""
    sync(origin)
    place(origin, target)


def place(origin: Path, target: Path, *, is_last: bool = True) -> None:
    """Give a file that is on the disk already its place, durably, on the same file system.

    Parameters
    ----------
    is_last
        False: others follow into the folder, and `sync_folder` when all are there.
    """
    origin.replace(target)
    if is_last:
        sync_folder(target.parent)


def sync(path: Path) -> None:
    """Bring the content of a file to the disk."""
    with path.open("r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def sync_open(descriptor: int) -> None:
    """Bring what was written to an open file to the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_A_FOLDER:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int | None = None) -> None:
    """Make a folder and those above it, durably, where they are missing; modes as in `replacing`."""
    if folder.is_dir():
        return
    mode = mode or (FOLDER_OF_ALL if _is_shared else FOLDER_OF_OWNER)
    make_folder(folder.parent, mode)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def append_line(path: Path, line: str, mode: int = 0o666) -> None:
    """Append a line, or several with line breaks between, whole or not at all; threads and processes may do so at once.

    It is in the file when this returns, but is not synced: a power cut may take the last seconds.

    Raises
    ------
    OSError
        If it does not fit on the disk; then nothing of it stays.
    """
    import fcntl

    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        append(descriptor, f"{line}\n".encode(), path)
    finally:
        os.close(descriptor)


def append(descriptor: int, content: bytes, path: Path) -> int:
    """Append to an open file whose only writer this is, whole or not at all; return where it begins.

    Raises
    ------
    OSError
        If it does not fit on the disk; then nothing of it stays.
    """
    before = os.fstat(descriptor).st_size
    if os.write(descriptor, content) < len(content):
        os.ftruncate(descriptor, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return before


def sweep(folder: Path, below: str = "", *, older_than_seconds: float = STALE_SECONDS) -> None:
    """Delete what writers that were killed left in a folder.

    Parameters
    ----------
    below
        Pattern of glob for the folders inside that are meant: ``*/``, or ``**/`` for all; empty: only this one.
    older_than_seconds
        What was touched since may belong to a writer at work; 0 where there can be none.
    """
    before = time.time() - older_than_seconds
    for part in list(folder.glob(below + UNFINISHED)):
        if part.lstat().st_mtime > before:
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
