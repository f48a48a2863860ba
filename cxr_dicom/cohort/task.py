"""What a worker does with one entry of a cohort: fetch, process, export, deliver, and keep the state.

Each entry ends in a state on the disk, whatever happens to it, and a state that still holds is the
answer without any work.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.cohort import states
from cxr_dicom.cohort.delivery import Delivery, NotDeliveredError
from cxr_dicom.cohort.finished import Done, summarise
from cxr_dicom.cohort.states import State, Taken
from cxr_dicom.config import Settings
from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import CxrDicomError, FetchError, SettingsError
from cxr_dicom.export import build_exporters, marked
from cxr_dicom.infer.device import choose
from cxr_dicom.ingest.folder import STATE_FOLDER, is_uid
from cxr_dicom.ingest.manifest import Entry, fetched
from cxr_dicom.plugins import strangers_of
from cxr_dicom.records import Outcome, Reason, Skipped, StoredInstance, Study, StudyResult
from cxr_dicom.results import report
from cxr_dicom.results import rows as result_rows
from cxr_dicom.results.schema import Row
from cxr_dicom.system import atomic, telemetry

if TYPE_CHECKING:
    from cxr_dicom.export.base import Exporter
    from cxr_dicom.pipeline import Pipeline

EXPORT_FOLDER = "also"
MAX_CRASHES = 3  # of worker processes at one entry; then it is set aside

_LEADING_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_building = threading.Lock()  # two items of one worker must not load the models twice


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a cohort is processed; nothing here changes an object."""

    force: bool = False  # process again what is finished
    retry_failed: bool = False  # process again what failed
    has_figures: bool = True  # keep all pictures of an image, for a report of each; else one small picture
    also: tuple[str, ...] = ()  # formats for those who train, as `plugins.EXPORTERS` lists them
    access: HttpAccess | None = None  # what the DICOMweb server of the manifest needs to let us in
    destination: str | None = None  # name of one of the settings' destinations, which gets the objects at once


def check(settings: Settings, options: Options) -> None:
    """Refuse what no entry could be done with.

    Raises
    ------
    SettingsError
        If a format or the destination does not exist, or a format needs a library that is missing.
    """
    build_exporters(options.also, settings)
    if options.destination is not None:
        Delivery(settings, options.destination)


class EntryTask:
    """Processes entries into an output folder; see `engine.Task`."""

    def __init__(self, *, settings: Settings, out: Path, options: Options) -> None:
        self._strangers = strangers_of(settings.models.names, settings.encode.objects)
        self._settings = settings
        self._out = out
        self._options = options

    def __call__(self, item: Entry) -> Done:
        """Process one entry to its state."""
        with _building:  # errors end the run: they are about the settings, not about this entry
            pipeline = self._pipeline
            self._exporters, self._delivery  # noqa: B018
        if not self._options.force and (state := self._finished(item, pipeline)):
            states.reset_attempts(
                self._out, item.key
            )  # killed after its state was written, before it was counted as ended
            return summarise(state, is_reused=True)
        try:
            with states.attempt(self._out, item.key) as crash_count:
                state = self._set_aside(item) if crash_count >= MAX_CRASHES else self._process(item, pipeline)
                states.save(self._out, state)
        except OSError as error:  # where no state can be written, no entry can be done
            raise CxrDicomError(f"{self._out}: {error.strerror or type(error).__name__}") from error
        return summarise(state)

    def interrupt(self, item: Entry) -> None:
        """Count an attempt that the user ended as none."""
        states.reset_attempts(self._out, item.key)

    def close(self) -> None:
        """Give the models' memory back."""
        if "_pipeline" in self.__dict__:
            self._pipeline.close()

    @cached_property
    def _pipeline(self) -> Pipeline:
        from cxr_dicom.pipeline import Pipeline

        if (here := strangers_of(self._settings.models.names, self._settings.encode.objects)) != self._strangers:
            raise SettingsError(f"a worker has other packages: expected {self._strangers}, found {here}")
        return Pipeline(self._settings)

    @cached_property
    def _device(self) -> str:
        """What ``auto`` is here; of a GPU also which, for their answers differ in the last bits."""
        import torch

        device = choose(self._settings.models)
        return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device

    @cached_property
    def _exporters(self) -> list[Exporter]:
        return build_exporters(self._options.also, self._settings)

    @cached_property
    def _delivery(self) -> Delivery | None:
        name = self._options.destination
        return Delivery(self._settings, name) if name is not None else None

    # --- what was done before --------------------------------------------------------------------

    def _finished(self, entry: Entry, pipeline: Pipeline) -> State | None:
        """Return the state that is still the answer to ``entry``."""
        state = states.load(self._out, entry.key)
        if state is None or state.unsent or not state.is_complete(self._out):
            return None
        if state.has_failures and self._options.retry_failed:
            return None
        if state.has_objects and not (set(marked(self._options.also)) <= set(state.also) and self._is_delivered(state)):
            return None
        if state.stamp == self._stamp(entry, pipeline):
            return self._at_picture(state, entry.picture) if entry.picture else state
        if entry.study is None or state.has_failures or not state.is_about(entry.study.instances):
            return None
        if state.job_key != self._job_key([entry.study], pipeline):  # this reads the files
            return None
        moved = replace(state.at(entry.study.instances), stamp=self._stamp(entry, pipeline))
        states.save(self._out, moved)
        return moved

    def _is_delivered(self, state: State) -> bool:
        destination = self._options.destination
        if destination is None or (state.has_failures and destination in state.taken):  # it was tried
            return True
        return state.object_uids() <= state.taken.get(destination, {}).keys()

    def _stamp(self, entry: Entry, pipeline: Pipeline) -> str:
        if entry.study:
            return _digest(sorted(_on_disk(entry.study)), pipeline.identity)
        return _digest(_size_and_time(entry.picture) if entry.picture else sorted(entry.sources), pipeline.identity)

    def _at_picture(self, state: State, picture: Path) -> State:
        """Return the state with the path that the picture is given by now: relative, or not."""
        path = result_rows.path_text(picture)
        if any(row["path"] != path for row in state.rows):
            state = replace(state, rows=[{**row, "path": path} for row in state.rows])
            states.save(self._out, state)
        return state

    def _job_key(self, studies: Sequence[Study], pipeline: Pipeline) -> str:
        return _digest(sorted(pipeline.job_key(study) for study in studies))

    # --- work ------------------------------------------------------------------------------------

    def _process(self, entry: Entry, pipeline: Pipeline) -> State:
        access, max_pixels = self._options.access, self._settings.select.max_pixels
        files_of = fetched(entry, self._out / STATE_FOLDER, access=access, max_pixels=max_pixels)
        try:
            with files_of as (studies, skipped):
                if entry.picture:
                    studies = [self._kept(each) for each in studies]
                studies, gone = _without_gone(studies)
                done = [pipeline.process(each, result_rows.study_folder(self._out, _uid(each))) for each in studies]
                files = {exporter.name: self._export(exporter, done) for exporter in self._exporters}
        except FetchError as error:
            return self._failed(entry, Reason.FETCH_FAILED, str(error))
        except Exception as error:  # one bad study never stops a run
            telemetry.failure("study", error, study_instance_uid=entry.key)
            return self._failed(entry, Reason.INTERNAL_ERROR, telemetry.safe_description(error))
        rows = [row for each in done for row in result_rows.study_rows(each, self._settings, self._out)]
        rows += [result_rows.skipped_row(each, self._settings) for each in (*skipped, *gone)]
        if entry.picture:
            files["wrapped"] = {i.sop_instance_uid: [i.path] for each in studies for i in each.instances}
        origins = {i.sop_instance_uid: i.sender or "" for each in studies for i in each.instances}
        for row in rows:
            if entry.picture:
                row["path"] = result_rows.path_text(entry.picture)
            elif entry.sources:
                row["path"] = _whole(origins.get(row["sop_instance_uid"] or "") or entry.sources[0], entry.sources)
            row["exports"] = [
                {"path": result_rows.path_text(path.relative_to(self._out)), "kind": kind}
                for kind, paths in files.items()
                for path in paths.get(row["sop_instance_uid"], ())
            ]
        state = State(
            key=entry.key,
            stamp=self._stamp(entry, pipeline),
            job_key=_digest(sorted(each.job_key for each in done)),
            rows=rows,
            figures=dict(self._figures(done)),
            device=self._device if any(row["models"] for row in rows) else "",
            also=marked(self._options.also),
            taken=self._taken(entry),
        )
        return self._deliver(state, done)

    def _kept(self, study: Study) -> Study:
        """Keep an instance that was made of a picture, for the objects refer to it."""
        folder = result_rows.study_folder(self._out, study.study_instance_uid)
        atomic.make_folder(folder)
        kept = [folder / f"radiograph-{each.sop_instance_uid}.dcm" for each in study.instances]
        for each, path in zip(study.instances, kept, strict=True):
            atomic.move(each.path, path)
        moved = (replace(each, path=path) for each, path in zip(study.instances, kept, strict=True))
        return replace(study, instances=tuple(moved))

    def _export(self, exporter: Exporter, done: Sequence[StudyResult]) -> dict[str | None, list[Path]]:
        """Write one format; give its files by SOP Instance UID, with which their names begin."""
        folder = self._out / EXPORT_FOLDER / exporter.name
        files: dict[str | None, list[Path]] = {}
        for path in sorted(path for each in done for path in exporter.export(each, folder)):
            named = (_LEADING_UID.match(part) for part in path.relative_to(folder).parts)
            files.setdefault(next((uid[0] for uid in named if uid), None), []).append(path)
        return files

    def _deliver(self, state: State, done: Sequence[StudyResult]) -> State:
        """Send the objects, where they are to be sent; what the destination has already is not sent again."""
        destination = self._options.destination
        if self._delivery is None or destination is None:
            return state
        made = {each.sop_instance_uid: each for study in done for i in study.instances for each in i.objects}
        rows = state.rows
        try:
            earlier = state.taken.get(destination, {})
            taken = self._delivery.send(list(made.values()), earlier, self._out / STATE_FOLDER)
        except NotDeliveredError as error:
            taken = error.taken
            rows = [_undelivered(row, error) if row["objects"] else row for row in rows]
        return replace(state, rows=rows, taken=state.taken | {destination: taken})

    def _taken(self, entry: Entry) -> dict[str, Taken]:
        """What destinations have of this entry, whichever run gave it to them."""
        earlier = states.load(self._out, entry.key)
        return earlier.taken if earlier else {}

    def _figures(self, done: Sequence[StudyResult]) -> Iterator[tuple[str, list[report.Figure]]]:
        draw = report.figures if self._options.has_figures else report.thumbnail
        for each in (instance for study in done for instance in study.instances):
            if each.instance and each.analysis:
                yield each.instance.sop_instance_uid, draw(each.analysis)

    # --- no result -------------------------------------------------------------------------------

    def _set_aside(self, entry: Entry) -> State:
        return self._failed(entry, Reason.WORKER_DIED, f"its worker process died {MAX_CRASHES} times")

    def _failed(self, entry: Entry, reason: Reason, detail: str) -> State:
        rows = [result_rows.skipped_row(each, self._settings) for each in _all_failed(entry, reason, detail)]
        if entry.sources:
            study = entry.key if is_uid(entry.key) else None
            rows = [{**row, "path": entry.sources[0], "study_instance_uid": study} for row in rows]
        return State(
            key=entry.key,
            stamp=self._stamp(entry, self._pipeline),
            job_key="",
            rows=rows,
            taken=self._taken(entry),
        )


def _all_failed(entry: Entry, reason: Reason, detail: str) -> Iterator[Skipped]:
    for each in entry.study.instances if entry.study else ():
        yield Skipped(path=each.path, reason=reason, detail=detail, outcome=Outcome.FAILED, instance=each)
    if entry.study is None:
        yield Skipped(
            path=entry.picture or Path(entry.sources[0]), reason=reason, detail=detail, outcome=Outcome.FAILED
        )


def _undelivered(row: Row, error: NotDeliveredError) -> Row:
    return {**row, "outcome": str(Outcome.FAILED), "reason": str(error.reason), "detail": str(error)}


def _whole(url: str, sources: Sequence[str]) -> str:
    """Replace the base URL of a DICOMweb server by that of the study."""
    return next((source for source in sources if source.startswith(url)), url)


def _without_gone(studies: Sequence[Study]) -> tuple[list[Study], list[Skipped]]:
    """Set aside instances whose file was removed since it was listed."""
    kept, gone = [], []
    for study in studies:
        there = {each: each.path.is_file() for each in study.instances}
        gone += [_gone(each) for each in there if not there[each]]
        if any(there.values()):
            kept.append(replace(study, instances=tuple(each for each in there if there[each])))
    return kept, gone


def _gone(instance: StoredInstance) -> Skipped:
    detail = "expected the file that was listed, found none"
    return Skipped(path=instance.path, reason=Reason.UNREADABLE, detail=detail, instance=instance)


def _on_disk(study: Study) -> Iterator[tuple[str, str, int, int]]:
    for each in study.instances:
        yield each.sop_instance_uid, str(each.path), *_size_and_time(each.path)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # gone: its processing will say so
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _uid(study: Study) -> str:
    return study.study_instance_uid
