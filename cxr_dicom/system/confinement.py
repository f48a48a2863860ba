"""A process that gives up what it does not need: writing outside of a few folders, and every network.

What a process gave up it never gets back, nor do its threads and children from then on. It is the last wall behind a
network of somebody else: what such a file may say is decided before anything of it runs. Landlock (landlock(7)) takes
writing, TCP and signals to others; a filter of system calls (seccomp(2)) takes new sockets of any kind. Reading stays
free: libraries are read while they are used.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
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
_NEEDS_TCP, _NEEDS_SCOPES = 4, 6
_SCOPES = 0b11  # sockets of Unix without a path, and signals: only among those that gave up the same
_DEVICES = ("null", "shm", "dri", "kfd", "nvidia")  # beginnings of names in /dev: of no disk


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


_FILTER, _SET_SECCOMP = 2, 22  # of prctl(2)
_PROCESSORS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # AUDIT_ARCH, number of socket(2)
_IO_URING = 425  # makes sockets too
_X32 = 0x40000000  # numbers of another table of calls begin here
_LOAD, _IF_EQUAL, _IF_GREATER, _ANSWER = 0x20, 0x15, 0x35, 0x06  # of classic BPF
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # with EPERM


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


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
    network = "has no network" if _can_filter() else "cannot use TCP" if version() >= _NEEDS_TCP else ""
    writing = "can write nothing but what it has to" if version() else ""
    if writing and network:
        return f"{writing}, and {network}"
    missing = "writes as its user may: no Landlock (Linux 5.13 and later)" if network else "its network stays open"
    return f"{network or writing}; {missing}" if network or writing else "is not confined: this system has no Landlock"


def confine(writable: Iterable[Path]) -> bool:
    """Give up writing outside of these folders, and networks, for the rest of this process.

    To be called before a process has other threads: those that it has already stay as they are.

    Returns
    -------
    bool
        Whether this system can take the writing. Where it cannot do one of them, the other is done.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is None or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    is_restricted = _restrict(writable, version())
    _filter(libc)
    return is_restricted


def _restrict(writable: Iterable[Path], found: int) -> bool:
    if not found:
        return False
    changes = _CHANGES | sum(right for since, right in _SINCE if found >= since)
    has_tcp, has_scopes = found >= _NEEDS_TCP, found >= _NEEDS_SCOPES
    rules = _Ruleset(changes, _TCP if has_tcp else 0, _SCOPES if has_scopes else 0)
    size = (1 + has_tcp + has_scopes) * ctypes.sizeof(ctypes.c_uint64)  # what this version knows
    ruleset = _call(_CREATE, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        devices = [path for path in Path("/dev").iterdir() if path.name.startswith(_DEVICES)]
        for path in (*writable, *devices):
            _allow(ruleset, path, changes)
        return _call(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _can_filter() -> bool:
    return sys.platform == "linux" and platform.machine() in _PROCESSORS and sys.maxsize > 1 << 32


def _filter(libc: ctypes.CDLL) -> None:
    """Refuse socket(2), and what else makes one, whatever table of calls a program chooses."""
    if not _can_filter():
        return
    processor, socket = _PROCESSORS[platform.machine()]
    end = 7  # number of the last instruction, which refuses
    instructions = (
        (_LOAD, 0, 0, 4),  # the processor
        (_IF_EQUAL, 0, end - 2, processor),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_IF_GREATER, end - 4, 0, _X32),
        (_IF_EQUAL, end - 5, 0, socket),
        (_IF_EQUAL, end - 6, 0, _IO_URING),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    program = _Program(len(instructions), ctypes.cast(code, ctypes.c_void_p))
    libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)


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
