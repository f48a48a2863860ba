"""Who owns an output folder: one session of `run`, or one for each part of it, on whatever machine.

A session is a file ``OUT/.cxr-dicom/session-<number>``, which is made whole and only where there is none (link(2),
which file servers know too), and which is deleted when the session ends. It holds a lock, where the file system has
locks, and is touched every `BEAT_SECONDS`. A session whose file is gone has lost the folder, and stops.

Why there is never more than one: each looks for others after its own file is there, and gives way to those with lower
numbers; one that finds a higher number takes a new one. Of two, the second to make its file sees the first.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal

import psutil

from cxr_dicom.cohort.tally import utc
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.ingest.manifest import Manifest
from cxr_dicom.results.rows import path_text
from cxr_dicom.system import atomic, telemetry
from cxr_dicom.system.packed import Packed

BEAT_SECONDS = 10.0  # between two signs of life
QUIET_SECONDS = 120.0  # without one; then a session on another machine is taken for dead
RESULTS: Final = "results"  # what is held to write the tables while parts may be at work
_FILE = "session-"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of file systems without hard links
_NUMBERED = re.compile(r"(?:session|journal)-([0-9]+)")  # a number is never given twice


class HeldError(CxrDicomError):
    """Another session has the folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part of a cohort, the first being 1. A study keeps its part when others are added."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``3/8``.

        Raises
        ------
        SettingsError
            If it is no part of anything.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise SettingsError(f"--part: expected one part of so many, as 1/8 to 8/8, found {text!r}")
        return cls(number=int(found[1]), of=int(found[2]))

    def __str__(self) -> str:
        """Write it as it is given."""
        return f"{self.number}/{self.of}"

    def all(self) -> list[Part]:
        """Return this part and the others."""
        return [Part(number=number, of=self.of) for number in range(1, self.of + 1)]

    def share(self, manifest: Manifest) -> Manifest:
        """Return what of a manifest belongs to it."""
        entries = Packed(entry for entry in manifest.entries if self.has(entry.key))
        skipped = tuple(skip for skip in manifest.skipped if self.has(path_text(skip.path)))
        return replace(manifest, entries=entries, skipped=skipped)

    def has(self, key: str) -> bool:
        """Whether an entry belongs to it."""
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % self.of == self.number - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Holder:
    """What the file of a session says."""

    host: str  # for people
    machine: str  # the system that was started, and the name space of its process numbers
    process: int
    birth: str  # of the process: a number is given again
    part: str | None  # None: all; or RESULTS
    started: str

    def excludes(self, other: _Holder) -> bool:
        """Whether the two may not have one folder at once."""
        if self.part is None or other.part is None:
            return True
        if RESULTS in (self.part, other.part):
            return self.part == other.part
        (own, of), (number, among) = self.part.split("/"), other.part.split("/")
        return of != among or own == number


class Session:
    """The right to write states and results to a folder, for as long as `hold` gives it.

    Attributes
    ----------
    number
        Higher than that of any session before it.
    path
        A file that is there as long as the right.
    """

    def __init__(self, out: Path, path: Path) -> None:
        self.number = int(path.name.removeprefix(_FILE))
        self._out = out
        self.path = path
        self._is_lost = False
        self._beaten_at = _now()
        self._end = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name="session", daemon=True)

    def expect_ours(self) -> None:
        """Make sure that this session still owns the folder, also after this machine slept.

        Raises
        ------
        CxrDicomError
            If another session took it over.
        """
        if _now() - self._beaten_at > 2 * BEAT_SECONDS:
            self._beat()
        if self._is_lost:
            raise CxrDicomError(f"{self._out} was taken over by another run while this one was not heard of")

    def others(self) -> list[int]:
        """Numbers of the sessions that have the folder too: those of other parts."""
        return sorted(set(_sessions(self.path.parent)) - {self.number})

    def begin(self) -> None:
        """Give signs of life."""
        self._heart.start()

    def end(self) -> None:
        """Give no more."""
        self._end.set()
        self._heart.join()

    def _beat_on(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            self._beat()

    def _beat(self) -> None:
        try:
            os.utime(self.path)
            self._beaten_at = _now()
        except FileNotFoundError:
            self._is_lost = True
        except OSError as error:  # the file system may come back
            telemetry.failure("session", error)


@contextmanager
def hold(out: Path, part: Part | Literal["results"] | None = None, *, take_over: bool = False) -> Iterator[Session]:
    """Own ``out``, or a part of what is written there, while the block runs.

    Parameters
    ----------
    part
        None: all of it. `RESULTS`: the tables, beside parts that are at work.
    take_over
        Take the folder from a session on another machine that gave a sign of life not long ago.

    Raises
    ------
    HeldError
        If another session has it, with the process and the machine.
    """
    folder = out / STATE_FOLDER
    atomic.make_folder(folder)
    own = _Holder(
        host=socket.gethostname(),
        machine=_machine(),
        process=os.getpid(),
        birth=_birth(os.getpid()) or "",
        part=str(part) if part else None,
        started=utc(),
    )
    path, descriptor = _claim(folder, own)
    try:
        for dead in _expect_alone(out, path, own, take_over=take_over):
            dead.unlink(missing_ok=True)
        session = Session(out, path)
        session.begin()
        try:
            yield session
        finally:
            session.end()
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _claim(folder: Path, own: _Holder) -> tuple[Path, int]:
    """Make the file of a session with the highest number; return it, open and locked."""
    while True:
        number = 1 + max(_numbers(folder), default=0)
        path = folder / f"{_FILE}{number:06}"
        descriptor = _made(path, json.dumps(asdict(own)).encode())
        if descriptor is None:
            continue
        if max(_numbers(folder), default=0) == number:
            return path, descriptor
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _made(path: Path, content: bytes) -> int | None:
    """Make a file with its content, locked; return its descriptor, None where there is one already."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    descriptor = _new(part, content)
    try:
        os.link(part, path)
        return descriptor
    except (FileExistsError, FileNotFoundError):  # the second: somebody swept the folder
        if os.fstat(descriptor).st_nlink == 2:  # ours: the answer of a file server was lost, and it was asked again
            return descriptor
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LINKS:
            raise
    finally:
        part.unlink(missing_ok=True)
    try:  # whoever reads it before its content is there takes it for alive
        return _new(path, content)
    except FileExistsError:
        return None


def _new(path: Path, content: bytes) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), atomic.file_mode())
    try:
        _lock(descriptor, "LOCK_EX")
        os.write(descriptor, content)
        atomic.sync_open(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _expect_alone(out: Path, path: Path, own: _Holder, *, take_over: bool) -> list[Path]:
    """Return the files of those that are dead; refuse to go on where another one is alive."""
    dead = []
    for number, other in _sessions(path.parent).items():
        found = _read(other)
        if other == path or found is None or not own.excludes(found):
            continue
        if problem := _sign_of_life(path, other, found, take_over=take_over):
            what = f"part {found.part} of " if found.part else ""
            raise HeldError(
                f"{what}{out} is in use by another run, process {found.process} on {found.host},"
                f" session {number}, since {found.started}: {problem}"
            )
        dead.append(other)
    return dead


def _sign_of_life(path: Path, other: Path, found: _Holder, *, take_over: bool) -> str:
    """Say why a session is not known to be dead; empty where it is."""
    try:
        with other.open("r+b") as file:
            age = _time_of(path) - os.fstat(file.fileno()).st_mtime  # on one clock, that of the file system
            if not _lock(file.fileno(), "LOCK_SH"):  # shared, so that two who look do not take each other for it
                return "it holds its lock"
    except FileNotFoundError:
        return ""
    if found.machine == _machine():
        return "it is at work on this machine" if _birth(found.process) == found.birth else ""
    if take_over or age >= QUIET_SECONDS:
        return ""
    return (
        f"its last sign of life was {max(age, 0):.0f} s ago. If that machine or container is gone,"
        f" wait until it is {QUIET_SECONDS:.0f} s, or give --take-over"
    )


def _lock(descriptor: int, how: Literal["LOCK_EX", "LOCK_SH"]) -> bool:
    """Lock a file until it is closed; return whether nobody else has it locked. True where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, getattr(fcntl, how) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def _time_of(path: Path) -> float:
    """Return the present on the clock of the file system."""
    os.utime(path)
    return path.stat().st_mtime


def _read(path: Path) -> _Holder | None:
    """Return what a file says; None where it is gone."""
    try:
        return _Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError):  # of another version, or damaged: only its signs of life count
        return _Holder(host="unknown", machine="", process=0, birth="", part=None, started="unknown")


def _sessions(folder: Path) -> dict[int, Path]:
    found = (path for path in folder.iterdir() if path.name.startswith(_FILE) and _NUMBERED.fullmatch(path.name))
    return dict(sorted((int(path.name.removeprefix(_FILE)), path) for path in found))


def _numbers(folder: Path) -> list[int]:
    return [int(found[1]) for path in folder.iterdir() if (found := _NUMBERED.fullmatch(path.name))]


@cache
def _machine() -> str:
    """Name the system since its start, and the name space in which process numbers mean something."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{boot.read_text(encoding='ascii').strip()} {space.readlink()}"
    return f"{uuid.getnode():x} {psutil.boot_time():.0f}"


def _birth(process: int) -> str | None:
    """Say when a process began, on a clock that nobody steps; None where there is none."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # proc_pid_stat(5): state, starttime; Z waits for its parent
    with suppress(psutil.Error):
        return f"{psutil.Process(process).create_time():.0f}"
    return None


def _now() -> float:
    """Return seconds on a clock that nobody steps, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
