"""The states of an output folder, in one file for each session that finished something.

``OUT/.cxr-dicom/journal-<number>`` belongs to the session of this number, whose driver alone appends to it. A line is a
check sum, a kind, a key, the folders that the state names, and JSON. A line that is cut off or damaged is as if it were
not there; of two states of one entry, that of the later session counts, and in one session the later one.

A session begins with a line that seals the journals before it: what is appended to them afterwards, by a process that
slept while its folder was taken over, does not count.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from cxr_dicom.cohort.places import Place, Places
from cxr_dicom.cohort.states import State
from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.results.schema import Row
from cxr_dicom.system import atomic

SYNC_SECONDS = 0.5  # a power cut, not a kill, may take the states of so long; they are made again
MOST_FILES = 64  # then they become one; or when more than half of them is out of date
_NAME = "journal-"
_BUFFER = 2**20  # bytes that are read at once
_BLOCK = 2**18  # bytes, of single states: neighbours are mostly asked for one after the other
_MOST_BLOCKS = 16  # in memory
_SLACK = 2**20  # bytes out of date that do not matter


class Journal:
    """What is finished in an output folder, as it was when this was made or refreshed.

    Parameters
    ----------
    out
        The output folder. States of versions before 0.2, in a file each, are read too.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / STATE_FOLDER
        self._forget()
        self.refresh()
        self._single = {path.stem: path for path in _single_files(self._folder)}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (key for key in self._single if self._places[key] is None)

    def place(self, key: str) -> Place | None:
        """Return where the state of an entry lies; None where there is none."""
        return self._places[key]

    def load(self, key: str) -> State | None:
        """Return the state of an entry; None when there is none, or none that this version understands."""
        place = self.place(key)
        if place is None:
            return _understood(_content(self._single[key])) if key in self._single else None
        try:
            return self._reader.state(place)
        except FileNotFoundError:  # a session has made one file of many
            self._forget()
            self.refresh()
            place = self.place(key)
            return self._reader.state(place) if place else None

    def refresh(self) -> None:
        """Read what was added since, by sessions at work."""
        found = dict(_journals(self._folder))
        seals = _seals(found)
        for number, path in found.items():
            start = self._read_up_to.get(number, 0)
            end = min(seals.get(number, path.stat().st_size), path.stat().st_size)
            for key, folders, offset, length in _states(path, start, end):
                self._note(key, folders, Place(number, offset, length))
                self._read_up_to[number] = offset + length
            self._sizes[number] = end

    def named(self, folder: str) -> set[str]:
        """Return the files in a study's folder that a state names, as paths from the output folder."""
        states = (self.load(key) for key in {folder, *self._guests.get(folder, ())})
        return {path for state in states if state for path in state.file_paths()}

    def _forget(self) -> None:
        self._reader = Reader(self._folder.parent)
        self._places = Places()
        self._guests: dict[str, tuple[str, ...]] = {}  # folder -> keys of other names whose states have files there
        self._read_up_to: dict[int, int] = {}  # bytes of each journal
        self._sizes: dict[int, int] = {}

    def _note(self, key: str, folders: Iterable[str], place: Place) -> None:
        if self._places.note(key, place):
            for folder in folders:
                self._guests[folder] = tuple({*self._guests.get(folder, ()), key})

    @property
    def _is_loose(self) -> bool:
        live, size = sum(place.length for place in self._places.in_order()), sum(self._sizes.values())
        return len(self._sizes) > MOST_FILES or size - live > live + _SLACK


class OwnJournal(Journal):
    """The journal that a session adds to; made by `writing`."""

    def __init__(self, out: Path, number: int, others: Iterable[int]) -> None:
        self._out = out
        self._number = number
        self._path = out / STATE_FOLDER / f"{_NAME}{number:06}"
        self._descriptor: int | None = None
        self._synced_at = time.monotonic()
        super().__init__(out)
        alive = {number, *others}
        sealed = {f"{each:06}": size for each, size in self._sizes.items() if each not in alive}
        self._head = _line("session", f"{number}", (), json.dumps({"sealed": sealed}))

    def save(self, state: State) -> None:
        """Add a state: it outlives this process when this returns, and a power cut soon after.

        Raises
        ------
        OSError
            If it does not fit on the disk; then nothing of it stays.
        """
        line = _state_line(state)
        offset = self._append(line)
        self._note(state.key, _folders(state), Place(self._number, offset, len(line)))
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring all to the disk."""
        if self._descriptor is not None:
            atomic.sync_open(self._descriptor)
            self._synced_at = time.monotonic()

    def close(self) -> None:
        """Bring all to the disk, and end."""
        if self._descriptor is not None:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = None

    def gather(self, *, is_alone: bool) -> None:
        """Take over the states of older versions and, where this session ``is_alone``, make one file of many."""
        if self._single:
            self._rewrite(
                _state_line(state) for path in self._single.values() if (state := _understood(_content(path)))
            )
            for path in self._single.values():
                path.unlink(missing_ok=True)
            self._single = {}
            self.refresh()
        if is_alone and self._is_loose:
            before = [path for number, path in _journals(self._folder) if number != self._number]
            self._rewrite(self._reader.line(place) for place in self._places.in_order())
            for path in before:
                path.unlink(missing_ok=True)
            self._forget()
        self.refresh()

    def _rewrite(self, lines: Iterable[bytes]) -> None:
        """Write the file of this session with these states instead; nothing has been added to it yet."""
        with atomic.open_bytes(self._path) as file:
            file.write(self._head)
            file.writelines(lines)
        self._read_up_to.pop(self._number, None)

    def _append(self, line: bytes) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self._path, flags, atomic.file_mode())
            if not os.fstat(self._descriptor).st_size:
                atomic.append(self._descriptor, self._head, self._path)
                atomic.sync_folder(self._folder)
        return atomic.append(self._descriptor, line, self._path)


@contextmanager
def writing(out: Path, number: int, others: Iterable[int]) -> Iterator[OwnJournal]:
    """Give the journal of a session, which may add to it while the block runs.

    Parameters
    ----------
    number
        Of the session.
    others
        Numbers of the sessions that are at work too, on other parts.
    """
    atomic.make_folder(out / STATE_FOLDER)
    own = OwnJournal(out, number, others)
    try:
        yield own
    finally:
        own.close()


class Reader:
    """Reads single states; threads may share it."""

    def __init__(self, out: Path) -> None:
        self._folder = out / STATE_FOLDER
        self._reading = threading.Lock()
        self._opened = lru_cache(maxsize=MOST_FILES)(self._open)
        self._block = lru_cache(maxsize=_MOST_BLOCKS)(self._read_block)

    def state(self, place: tuple[int, int, int]) -> State | None:
        """Return the state at a place; None where there is none that this version understands."""
        return _understood(self.line(place).rstrip(b"\n").split(b" ", 4)[-1])

    def line(self, place: tuple[int, int, int]) -> bytes:
        """Return the line at a place."""
        with self._reading:
            line = self._cut(place)
            if not _checked(line):  # what is in memory is from before it was written
                self._block.cache_clear()
                line = self._cut(place)
            return line

    def _cut(self, place: tuple[int, int, int]) -> bytes:
        number, offset, length = place
        first = offset // _BLOCK
        blocks = [self._block(number, index) for index in range(first, (offset + length - 1) // _BLOCK + 1)]
        start = offset - first * _BLOCK
        return b"".join(blocks)[start : start + length]

    def _read_block(self, number: int, index: int) -> bytes:
        file = self._opened(number)
        os.lseek(file.descriptor, index * _BLOCK, os.SEEK_SET)  # no os.pread, which Windows lacks
        return os.read(file.descriptor, _BLOCK)

    def _open(self, number: int) -> _Open:
        return _Open(self._folder / f"{_NAME}{number:06}")


class _Open:
    """A file that is closed when nobody needs it any more."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self.descriptor = os.open(str(path), flags)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _line(kind: str, key: str, folders: Iterable[str], text: str) -> bytes:
    content = f"{kind} {key} {','.join(folders) or '-'} {text}".encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _checked(line: bytes) -> bytes:
    """Return what stands behind the check sum of a line; nothing where it is cut off or damaged."""
    check, _, content = line.rstrip(b"\n").partition(b" ")
    return content if line.endswith(b"\n") and b"%08x" % zlib.crc32(content) == check else b""


def _state_line(state: State) -> bytes:
    return _line("state", state.key, _folders(state), json.dumps(asdict(state), separators=(",", ":")))


def _folders(state: State) -> list[str]:
    """Return the folders of other names than the key's in which the state has objects."""
    found = {path.partition("/")[0] for row in state.rows for path in (each["path"] for each in row["objects"])}
    return sorted(found - {state.key})


def _states(path: Path, start: int, end: int) -> Iterator[tuple[str, list[str], int, int]]:
    """Yield key, folders, offset and length of each state in a part of a file; stop where a line is not whole."""
    with path.open("rb", buffering=_BUFFER) as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n") or offset + len(line) > end:
                return
            content = _checked(line)
            if content.startswith(b"state "):
                _, key, folders, _ = content.split(b" ", 3)
                yield key.decode(), [each for each in folders.decode().split(",") if each != "-"], offset, len(line)
            offset += len(line)


def _seals(journals: dict[int, Path]) -> dict[int, int]:
    """Return how far each journal counts, as the sessions after it said."""
    found: dict[int, int] = {}
    for path in journals.values():
        with path.open("rb") as file:
            content = _checked(file.readline())
        if not content.startswith(b"session "):
            continue
        for number, size in json.loads(content.split(b" ", 3)[3])["sealed"].items():
            found[int(number)] = min(size, found.get(int(number), size))
    return found


def _journals(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.name.startswith(_NAME))
    return sorted((int(number), path) for path in found if (number := path.name.removeprefix(_NAME)).isdecimal())


def _single_files(folder: Path) -> list[Path]:
    """Return the files of older versions: ``<key>.json``."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix == ".json")
    return [path for path in found if path.name[0] in "x0123456789"]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _understood(content: bytes) -> State | None:
    try:
        state = State(**json.loads(content))
        is_whole = all(Row.__required_keys__ <= row.keys() for row in state.rows)
        return state if is_whole and all(map(_is_inside, state.file_paths())) else None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def _is_inside(path: str) -> bool:
    """Whether a path stays in its folder; that of somebody else may name any file, to be removed or sent."""
    found = PureWindowsPath(path)  # knows what leads out on any system
    return not found.anchor and ".." not in found.parts
