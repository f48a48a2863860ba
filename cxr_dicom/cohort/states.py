"""The state of each finished entry, so that a run can be killed and restarted.

A state is kept in the `journal` when everything of the entry is on the disk. ``OUT/.cxr-dicom/<key>.attempts`` counts
the times that the entry was begun and not finished, with the UIDs of what was being written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cxr_dicom.ingest.folder import STATE_FOLDER, is_uid
from cxr_dicom.records import Outcome, Reason, StoredInstance
from cxr_dicom.results.rows import path_text
from cxr_dicom.results.schema import ObjectRow, Row
from cxr_dicom.system import atomic

_AT_ONCE = 32  # questions to a file system
_PART = 64  # that a thread asks one after the other

Delivered = dict[
    str, str
]  # SOP Instance UID of an object -> UID under which the destination has it: the same, or its twin's


@dataclass(frozen=True, kw_only=True)
class State:
    """One finished entry."""

    key: str
    stamp: str  # of the sources' sizes and times, without reading them: shows quickly that nothing changed
    job_key: str  # of the sources' content, the weights, the settings and the version
    rows: list[Row]
    figures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by SOP Instance UID; see `report.figures`
    embeddings: dict[str, dict[str, str]] = field(default_factory=dict)  # by SOP Instance UID; `results.embeddings`
    device: str = ""  # that the networks ran on
    host: str = ""  # the machine that did it
    also: list[str] = field(default_factory=list)  # formats that were exported
    taken: dict[str, Delivered] = field(default_factory=dict)  # by destination
    folders: dict[str, int] = field(default_factory=dict)  # of the objects: when names in them changed last, in ns

    @property
    def has_failures(self) -> bool:
        """Whether an image failed."""
        return any(row["outcome"] == Outcome.FAILED for row in self.rows)

    @property
    def unsent(self) -> str:
        """Why the destination could not be reached; empty where nothing waits for it."""
        return next((row["detail"] for row in self.rows if row["reason"] == Reason.DESTINATION_UNREACHABLE), "")

    @property
    def has_objects(self) -> bool:
        """Whether there is something to export and to deliver."""
        return any(row["objects"] for row in self.rows)

    def object_uids(self) -> set[str]:
        """SOP Instance UIDs of the objects."""
        return {object_row["sop_instance_uid"] for row in self.rows for object_row in row["objects"]}

    def is_about(self, instances: Sequence[StoredInstance]) -> bool:
        """Whether the rows are those of just these instances."""
        return {row["sop_instance_uid"] for row in self.rows} == {instance.sop_instance_uid for instance in instances}

    def is_complete(self, out: Path, known: int | None = None) -> bool:
        """Whether all files are still in ``out``.

        A folder in which no name changed since is not looked through: one question in place of one for each file.

        Parameters
        ----------
        known
            What `changed_at` says of the folder of the entry's own name; None: it is asked.
        """
        found = {folder: changed_at(out / folder) for folder in self.folders if known is None or folder != self.key}
        same = {folder for folder, changed in self.folders.items() if found.get(folder, known) == changed}
        return all((out / path).is_file() for path in self.file_paths() if path.rpartition("/")[0] not in same)

    def file_paths(self) -> set[str]:
        """Paths of the objects and exports, relative to the output folder."""
        return {file["path"] for row in self.rows for file in (*row["objects"], *row["exports"])}

    def row(self, number: int, destination: str | None) -> Row:
        """Return a row; objects that ``destination`` has under another UID say so."""
        row, taken = self.rows[number], self.taken.get(destination or "", {})
        row = {**row, "objects": [_sent(object_row, taken) for object_row in row["objects"]]}
        return {**row, "host": self.host} if self.host else row

    def at(self, instances: Sequence[StoredInstance]) -> State:
        """Return the same state with the paths that the inputs have now."""
        paths: dict[str | None, str] = {instance.sop_instance_uid: path_text(instance.path) for instance in instances}
        return replace(self, rows=[{**row, "path": paths[row["sop_instance_uid"]]} for row in self.rows])


def changed_at_each(paths: Sequence[Path]) -> Iterator[int]:
    """Yield `changed_at` of many paths, which are asked at once: over a network each answer takes its time."""
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from chain.from_iterable(pool.map(lambda part: [*map(changed_at, part)], parts))


def changed_at(path: Path) -> int:
    """Return when a file, or a name in a folder, changed last, in nanoseconds; -1 where it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _sent(about: ObjectRow, taken: Delivered) -> ObjectRow:
    uid = about["sop_instance_uid"]
    return about if taken.get(uid, uid) == uid else {**about, "sent_as": taken[uid]}


class Attempt:
    """One attempt at an entry, how many before it never ended, and what it may write."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.is_repeated = path.exists()
        self.earlier = _count(path)
        self._path = path
        self._names = {*_noted(path), *names}
        _write(path, self.earlier + 1, self._names)

    def note(self, names: Iterable[str]) -> None:
        """Write down the UIDs of studies and images whose files may be written, where they were not known before."""
        if more := set(names) - self._names:
            self._names |= more
            _write(self._path, self.earlier + 1, self._names)


@contextmanager
def attempt(out: Path, key: str, names: Iterable[str] = ()) -> Iterator[Attempt]:
    """Count this attempt until `reset_attempts`, which who keeps its state calls; one that ends in an error counts not.

    Parameters
    ----------
    names
        UIDs of the studies and images whose files may be written.
    """
    path = _attempts(out, key)
    begun = Attempt(path, names)
    try:
        yield begun
    except BaseException:
        forgive(out, key)
        raise


def begun(out: Path) -> dict[str, list[str]]:
    """Return the names that each attempt wrote down that has not ended, by the key of its entry."""
    return {path.stem: _noted(path) for path in (out / STATE_FOLDER).glob("*.attempts")}


def names(out: Path, key: str) -> list[str]:
    """Return the names that the attempts at an entry wrote down."""
    return _noted(_attempts(out, key))


def crash_count(out: Path, key: str) -> int:
    """How often a process died while it processed the entry."""
    return _count(_attempts(out, key))


def forgive(out: Path, key: str) -> None:
    """Count no attempt at an entry that was stopped on purpose, or for want of something; what it wrote stays noted."""
    path = _attempts(out, key)
    if path.exists():
        _write(path, 0, _noted(path))


def reset_attempts(out: Path, key: str) -> None:
    """Forget attempts: the state of the entry is kept."""
    _attempts(out, key).unlink(missing_ok=True)


def _write(path: Path, count: int, names: Iterable[str]) -> None:
    with atomic.open_text(path) as file:
        file.write("\n".join([str(count), *sorted(names)]))


def _count(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii").partition("\n")[0])
    except (OSError, ValueError):
        return 0


def _noted(path: Path) -> list[str]:
    try:
        return [name for name in path.read_text(encoding="ascii").splitlines()[1:] if is_uid(name)]
    except (OSError, ValueError):
        return []


def _attempts(out: Path, key: str) -> Path:
    return out / STATE_FOLDER / f"{key}.attempts"
