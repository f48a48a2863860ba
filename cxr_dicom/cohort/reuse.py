"""Whether the state of an earlier run is still valid for an entry.

The stamp, made of sizes and times, shows at once that nothing changed. Where it changed, the content decides:
only then are the sources read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cxr_dicom.cohort.options import Tools
from cxr_dicom.cohort.states import State
from cxr_dicom.export import marked
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.records import Study
from cxr_dicom.results.rows import path_text
from cxr_dicom.system.digest import sha256


def reconsidered(entry: Entry, earlier: State | None, tools: Tools) -> tuple[Entry, State | None]:
    """Decide on an entry that has a state.

    Returns
    -------
    entry
        The same; with the SHA-256 of its files, where they had to be read to decide.
    state
        ``earlier``, with the paths and the stamp that the sources have now; None where it no longer holds.
    """
    if earlier is None or tools.options.force or not _is_finished(earlier, tools, entry.changed_at):
        return entry, None
    now = stamp(entry, tools)
    if earlier.stamp == now:
        return entry, _at_picture(earlier, entry.picture) if entry.picture else earlier
    if entry.study is None or earlier.has_failures or not earlier.is_about(entry.study.instances):
        return entry, None
    try:
        study = _digested(entry.study)
    except OSError:  # removed since it was listed: processing will report it
        return entry, None
    entry = replace(entry, study=study)
    if earlier.job_key != job_key([tools.pipeline.job_key(study)]):
        return entry, None
    return entry, replace(earlier.at(study.instances), stamp=now)


def stamp(entry: Entry, tools: Tools) -> str:
    """Digest the locations, sizes and times of an entry's sources, and all else that a result depends on."""
    identity = tools.pipeline.identity
    if entry.study:
        return _digest(sorted(_on_disk(entry.study)), identity)
    return _digest(_size_and_time(entry.picture) if entry.picture else sorted(entry.sources), identity)


def job_key(of_studies: Iterable[str]) -> str:
    """Return the job key of an entry, from those of its studies."""
    return _digest(sorted(of_studies))


def _is_finished(state: State, tools: Tools, changed_at: int | None) -> bool:
    """Whether everything that is asked for was done, and its files are there."""
    if state.unsent or not state.is_complete(tools.out, changed_at):
        return False
    if state.has_failures and tools.options.retry_failed:
        return False
    return not state.has_objects or (set(marked(tools.options.also)) <= set(state.also) and _is_delivered(state, tools))


def _is_delivered(state: State, tools: Tools) -> bool:
    destination = tools.options.destination
    was_tried = state.has_failures and destination in state.taken
    return destination is None or was_tried or state.object_uids() <= state.taken.get(destination, {}).keys()


def _at_picture(state: State, picture: Path) -> State:
    """Return the state with the path that the picture is given by now: relative, or not."""
    path = path_text(picture)
    if all(row["path"] == path for row in state.rows):
        return state
    return replace(state, rows=[{**row, "path": path} for row in state.rows])


def _digested(study: Study) -> Study:
    instances = (replace(instance, sha256=instance.sha256 or sha256(instance.path)) for instance in study.instances)
    return replace(study, instances=tuple(instances))


def _on_disk(study: Study) -> Iterator[tuple[str, str, int, int]]:
    for instance in study.instances:
        yield instance.sop_instance_uid, str(instance.path), *_size_and_time(instance.path)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # removed: processing will report it
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()
