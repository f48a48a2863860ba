"""The state of each finished entry, so that a run can be killed and restarted.

``OUT/.cxr-dicom/<key>.json`` is written when everything of the entry is on the disk; it is complete
or absent. ``<key>.attempts`` counts the times that the entry was begun and not finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.records import Outcome, Reason, StoredInstance
from cxr_dicom.results.rows import path_text
from cxr_dicom.results.schema import ObjectRow, Row
from cxr_dicom.system import atomic

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

    def is_complete(self, out: Path) -> bool:
        """Whether all files are still in ``out``."""
        return all((out / path).is_file() for path in self.file_paths())

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


def _sent(about: ObjectRow, taken: Delivered) -> ObjectRow:
    uid = about["sop_instance_uid"]
    return about if taken.get(uid, uid) == uid else {**about, "sent_as": taken[uid]}


def load(out: Path, key: str) -> State | None:
    """Read the state of an entry; None when there is none, or none that this version understands."""
    try:
        state = State(**json.loads(_path(out, key).read_text(encoding="utf-8")))
        return state if all(Row.__required_keys__ <= row.keys() for row in state.rows) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def save(out: Path, state: State, earlier: State | None = None) -> None:
    """Keep ``state``, and remove the files of the ``earlier`` one of this entry that are not in it."""
    with atomic.open_text(_path(out, state.key)) as file:
        json.dump(asdict(state), file, separators=(",", ":"))
    for path in (earlier.file_paths() if earlier else set()) - state.file_paths():
        (out / path).unlink(missing_ok=True)


@contextmanager
def attempt(out: Path, key: str) -> Iterator[int]:
    """Count this attempt while the block runs, and give the number of earlier ones that never ended."""
    path = _attempts(out, key)
    earlier = crash_count(out, key)
    with atomic.open_text(path) as file:
        file.write(str(earlier + 1))
    try:
        yield earlier
    finally:
        path.unlink(missing_ok=True)


def crash_count(out: Path, key: str) -> int:
    """How often a process died while it processed the entry."""
    try:
        return int(_attempts(out, key).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def reset_attempts(out: Path, key: str) -> None:
    """Forget an attempt that was stopped on purpose."""
    _attempts(out, key).unlink(missing_ok=True)


def _path(out: Path, key: str) -> Path:
    return out / STATE_FOLDER / f"{key}.json"


def _attempts(out: Path, key: str) -> Path:
    return out / STATE_FOLDER / f"{key}.attempts"
