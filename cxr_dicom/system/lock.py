"""One process at a time in a folder: a file that is locked until its holder ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class LockedError(Exception):
    """Another process has the lock; the text is its number."""


def take(path: Path, mode: int = 0o600) -> int:
    """Lock a file, which is made with ``mode`` when missing; closing the descriptor that is returned ends it.

    Raises
    ------
    LockedError
        If another process has it.
    OSError
        If the file cannot be opened, or its file system has no locks.
    ImportError
        On Windows.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise LockedError(holder) from None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextmanager
def in_turn(path: Path, mode: int = 0o600) -> Iterator[None]:
    """Hold the lock of a file, after everybody who has it; where there are no locks, nobody waits."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
