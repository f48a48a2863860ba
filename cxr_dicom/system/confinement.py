"""A process that gives up what it does not need: writing outside of a few folders, and TCP (Landlock of Linux).

What a process gave up it never gets back, nor do its threads and children from then on (landlock(7)). It is the last
wall behind a network of somebody else: what such a file may say is decided before anything of it runs. Landlock
knows neither UDP nor sockets of Unix, and reading stays free: libraries are read while they are used.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, of the same numbers on every processor
_VERSION = 1  # a flag: ask for the version instead
_BENEATH = 1  # a kind of rule
_NO_NEW_PRIVILEGES = 38  # of prctl(2)
_TCP = 0b11  # bind, connect; since version 4
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_CHANGES = sum(1 << bit for bit in (1, *range(4, 13)))  # write, remove, and make of any kind
_OF_FILES = _WRITE_FILE | _TRUNCATE  # what a rule of a file, not of a folder, may name
_SINCE = ((2, _REFER), (3, _TRUNCATE))
_NEEDS_TCP = 4
_DEVICES = ("null", "shm", "dri", "kfd", "nvidia")  # beginnings of names in /dev: of no disk


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that this machine has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE, None, 0, _VERSION))


def words() -> str:
    """Say what `confine` does on this machine."""
    found = version()
    if not found:
        return "is not confined: this system has no Landlock (Linux 5.13 and later)"
    tcp = ", and not use TCP" if found >= _NEEDS_TCP else "; TCP stays open: that takes Linux 6.7"
    return f"can write only where it has to{tcp}"


def confine(writable: Iterable[Path], *, tcp: bool = False) -> bool:
    """Give up writing outside of these folders, and TCP, for the rest of this process.

    To be called before a process has other threads: those that it has already stay as they are.

    Parameters
    ----------
    tcp
        Keep it: the process fetches or delivers.

    Returns
    -------
    bool
        Whether this system can. Where it cannot, nothing has changed.
    """
    found = version()
    if not found:
        return False
    changes = _CHANGES | sum(right for since, right in _SINCE if found >= since)
    has_tcp = found >= _NEEDS_TCP and not tcp
    rules = _Ruleset(changes, _TCP if has_tcp else 0)
    size = ctypes.sizeof(rules) if has_tcp else ctypes.sizeof(ctypes.c_uint64)
    ruleset = _call(_CREATE, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        devices = [path for path in Path("/dev").iterdir() if path.name.startswith(_DEVICES)]
        for path in (*writable, *devices):
            _allow(ruleset, path, changes)
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and _call(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, changes: int) -> None:
    """Leave a folder, or a file, as it is."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is not there, so nothing is written there
        return
    try:
        rule = _Rule(changes if path.is_dir() else changes & _OF_FILES, descriptor)
        _call(_ADD, ruleset, _BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *given))
