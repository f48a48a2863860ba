"""Many studies: a manifest's entries through an engine, each to its state; then the result files.

Studies are independent, so workers share nothing but the output folder. The parent holds no results:
it reads them from the states, again for each file, so that a hundred thousand images need no more
memory than a hundred.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cxr_dicom.cohort import session, states
from cxr_dicom.cohort.delivery import OutageGuard
from cxr_dicom.cohort.engine import SMALL, Engine
from cxr_dicom.cohort.finished import Answer, Done, summarise
from cxr_dicom.cohort.journal import Journal, OwnJournal, writing
from cxr_dicom.cohort.known import Known
from cxr_dicom.cohort.options import EXPORT_FOLDER, Options
from cxr_dicom.cohort.run_record import RunRecord
from cxr_dicom.cohort.session import Part, Session
from cxr_dicom.cohort.states import State
from cxr_dicom.cohort.sweep import sweep, tidy
from cxr_dicom.cohort.tally import Tally
from cxr_dicom.cohort.task import EntryTask, check
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.export import build_exporters
from cxr_dicom.infer import model_infos
from cxr_dicom.ingest.manifest import Entry, Manifest
from cxr_dicom.records import Outcome, Skipped
from cxr_dicom.results import embeddings, report, tables
from cxr_dicom.results import rows as result_rows
from cxr_dicom.results.masks import inside
from cxr_dicom.results.schema import Row
from cxr_dicom.system import atomic, telemetry, wants
from cxr_dicom.system.packed import Ordered, Packed

RESULT_FILES = (
    "results.jsonl",
    "results.csv",
    "results.parquet",
    "failures.csv",
    "run.json",
    "report.html",
    embeddings.FILE,
)
FIGURES_UP_TO = SMALL  # entries; of more, a report shows the cohort and not each image


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is."""

    tally: Tally
    latest: Done | None = None  # None at the start


def run(
    manifest: Manifest,
    out: Path,
    settings: Settings,
    engine: Engine,
    *,
    options: Options | None = None,
    report_progress: Callable[[Progress], None] = lambda progress: None,
    part: Part | None = None,
    take_over: bool = False,
) -> Tally:
    """Process every entry of ``manifest`` and write objects, result files and report to ``out``.

    Of several parts, each in a command of its own, the last one writes the result files of all.

    Parameters
    ----------
    manifest
        What to process.
    out
        Output folder; made when missing.
    settings
        The same for every study.
    engine
        Where the work is done.
    options
        How. Of more than `FIGURES_UP_TO` entries only small pictures are kept.
    report_progress
        Called at the start and after every entry.
    part
        Process no more than this part of the manifest.
    take_over
        Take ``out`` from a run on another machine, which is gone.

    Raises
    ------
    SettingsError, WeightsError
        If the pipeline cannot be built, or the options name something that does not exist.
    DestinationDownError
        If the destination could not be reached for several studies in a row.
    WantError
        If this machine has no room, memory or permission left; then what is finished is kept.
    CxrDicomError
        If ``out`` cannot be written, or is in use by another run.
    """
    options = options or Options()
    check(settings, options)
    try:
        atomic.share(settings.files.shared)
        atomic.make_folder(out)
        with session.hold(out, part, take_over=take_over) as own, writing(out, own.number, own.others()) as journal:
            journal.gather(is_alone=part is None)
            sweep(out, journal, part)
            options = replace(options, has_figures=options.has_figures and len(manifest.entries) <= FIGURES_UP_TO)
            work = _Work(without_own_output(manifest, out, journal), out, settings, options, part, journal)
            return work.do(engine, report_progress, own)
    except OSError as error:
        wants.raise_if_lacking(error)
        raise CxrDicomError(f"{error.filename or out}: {error.strerror or type(error).__name__}") from error


class _Work:
    """What one command does."""

    def __init__(
        self,
        manifest: Manifest,
        out: Path,
        settings: Settings,
        options: Options,
        part: Part | None,
        journal: OwnJournal,
    ) -> None:
        self._journal = journal
        self._whole = manifest
        self._share = part.share(manifest) if part else manifest
        self._out = out
        self._settings = settings
        self._options = options
        self._part = part

    def do(self, engine: Engine, report_progress: Callable[[Progress], None], own: Session) -> Tally:
        """Process the entries, and write the result files where nothing is left to do."""
        content = self._content(self._share)
        tally = content.tally
        record = RunRecord(self._out, tally, self._whole, self._settings, self._part)
        telemetry.event("scan_done", studies=len(self._share.entries), skipped=len(self._share.skipped))
        report_progress(Progress(tally=tally))
        with record.session(lambda: engine.description):
            for done in self._process(engine, own):
                content.add(done)
                record.progress()
                telemetry.event("study_done", study_instance_uid=done.key, **_counts(done))
                report_progress(Progress(tally=tally, latest=done))
            own.expect_ours()
            self._journal.sync()
            if self._part is None:
                self._write(content, lambda: record.finish(engine.description))
            else:
                record.finish(engine.description)
        telemetry.event("run_done", **{str(outcome): tally.images[outcome] for outcome in Outcome})
        if self._part is not None:
            tally.unfinished_parts = record.unfinished_parts
            if not tally.unfinished_parts:
                self._sum_up(engine)
        return tally

    def _process(self, engine: Engine, own: Session) -> Iterator[Done]:
        task = EntryTask(settings=self._settings, out=self._out, options=self._options, owner=own.path)
        outage_guard = OutageGuard(self._options.destination)
        items = Known(self._share.entries, self._out, self._journal)
        begun = set(states.begun(self._out))
        with closing(engine.process(items, task)) as finished:
            for answer in finished:
                own.expect_ours()
                self._keep(answer, was_begun=answer.done.key in begun)
                yield answer.done
                has_answered = bool(answer.done.objects) and not answer.done.is_reused
                outage_guard.note(answer.done.unsent, has_answered=has_answered)

    def _keep(self, answer: Answer, *, was_begun: bool) -> None:
        """Keep the state of an entry, and remove what it makes obsolete."""
        key = answer.done.key
        if answer.state:
            self._journal.save(answer.state)
        for path in answer.obsolete:
            with suppress(ValueError):  # a link in a folder of somebody else leads out of it
                inside(self._out, path).unlink(missing_ok=True)
        if answer.is_repeated:
            tidy(self._out, self._journal, key, states.names(self._out, key), is_alone=self._part is None)
        if answer.state or was_begun:
            states.reset_attempts(self._out, key)

    def _sum_up(self, engine: Engine) -> None:
        """Write the result files of all parts, unless another one that ended just now does."""
        with suppress(session.HeldError), session.hold(self._out, session.RESULTS) as own:
            self._journal.refresh()
            content = self._content(self._whole)
            for entry in self._whole.entries:
                content.add(summarise(content.state(entry.key), is_reused=True))
            own.expect_ours()
            record = RunRecord(self._out, content.tally, self._whole, self._settings)
            self._write(content, lambda: record.sum_up(engine.description))

    def _content(self, manifest: Manifest) -> _Content:
        return _Content(manifest, self._out, self._settings, self._options, self._journal)

    def _write(self, content: _Content, finish: Callable[[], dict[str, Any]]) -> None:
        for exporter in build_exporters(self._options.also, self._settings):
            exporter.collect(self._out / EXPORT_FOLDER / exporter.name)
        content.write(finish)


class _Content:
    """The content of the result files, in the order of the inputs' paths."""

    def __init__(self, manifest: Manifest, out: Path, settings: Settings, options: Options, journal: Journal) -> None:
        self._journal = journal
        self.tally = Tally(len(manifest.entries))
        self._manifest = manifest
        self._out = out
        self._settings = settings
        self._options = options
        self._index = Ordered()  # path, SOP Instance UID, key of the state, number in it
        for number, skipped in enumerate(manifest.skipped):
            self.tally.skip(skipped)
            self._index.add([(result_rows.path_text(skipped.path), _uid(skipped), "", number)])

    def add(self, done: Done) -> None:
        self.tally.add(done)
        self._index.add((path, uid, done.key, number) for number, (path, uid) in enumerate(done.index))

    def write(self, finish: Callable[[], dict[str, Any]]) -> None:
        """Write all; ``finish`` writes `run.json` and returns what it has."""
        lines = self._out / "results.jsonl"
        result_rows.write_jsonl(lines, self._rows())
        rows = partial(result_rows.read_jsonl, lines)
        tables.write_csv(self._out / "results.csv", rows)
        tables.write_parquet(self._out / "results.parquet", rows)
        tables.write_failures(self._out / "failures.csv", rows)
        embeddings.write(self._out / embeddings.FILE, self.tally.embeddings, self._embeddings())
        run = finish()
        page, infos = self._out / "report.html", model_infos(self._settings)
        if self._options.has_figures:
            report.write(page, list(rows()), self._figures, infos)
        else:
            from cxr_dicom.results import cohort_report

            cohort_report.write(page, rows, run, self._thumbnail, infos)

    def _rows(self) -> Iterator[Row]:
        """Read the rows from the states; rows of one study follow each other, but for a few."""
        load = lru_cache(maxsize=16)(self.state)
        for _, _, key, number in self._index:
            yield load(key).row(number, self._options.destination) if key else self._skipped_row(number)

    def _embeddings(self) -> Iterator[tuple[Row, embeddings.Packed]]:
        load = lru_cache(maxsize=16)(self.state)
        for _, uid, key, number in self._index:
            if key:
                yield load(key).rows[number], load(key).embeddings.get(uid, {})

    def _skipped_row(self, number: int) -> Row:
        return result_rows.skipped_row(self._manifest.skipped[number], self._settings)

    def state(self, key: str) -> State:
        """Return the state of an entry, which is finished."""
        state = self._journal.load(key)
        if state is None:
            raise CxrDicomError(f"the state of {key} is not in {self._out}: it was removed")
        return state

    def _figures(self, row: Row) -> list[report.Figure]:
        key = next(key for _, uid, key, _ in self._index if uid == row["sop_instance_uid"] and key)
        return self.state(key).figures.get(row["sop_instance_uid"] or "", [])

    def _thumbnail(self, row: Row) -> str | None:
        return next((str(figure["source"]) for figure in self._figures(row) if figure["title"] == "Anatomy"), None)


def without_own_output(manifest: Manifest, out: Path, journal: Journal | None = None) -> Manifest:
    """Leave out what an earlier run wrote to ``out``, where inputs lie there too."""
    home, real = _real(out), _Real()
    if not any(real(path).is_relative_to(home) for path in _paths(manifest)):
        return manifest
    exported = home / EXPORT_FOLDER
    written = {home / name for name in RESULT_FILES}
    kept = Journal(out) if journal is None else journal

    def is_own(path: Path) -> bool:
        place = real(path)
        return place in written or place.is_relative_to(exported)

    for entry in manifest.entries:
        if entry.picture and (state := kept.load(entry.key)):
            written |= {home / path for path in state.file_paths()}

    def others() -> Iterator[Entry]:
        for entry in manifest.entries:
            if entry.study and any(real(instance.path).is_relative_to(home) for instance in entry.study.instances):
                state = kept.load(entry.key)
                written.update(home / path for path in (state.file_paths() if state else ()))
                foreign = tuple(instance for instance in entry.study.instances if not is_own(instance.path))
                entry = replace(entry, study=replace(entry.study, instances=foreign), instances=len(foreign))
            if entry.study.instances if entry.study else not (entry.picture and is_own(entry.picture)):
                yield entry

    entries = Packed(others())
    skipped = tuple(skip for skip in manifest.skipped if not is_own(skip.path))
    return replace(manifest, entries=entries, skipped=skipped)


def _paths(manifest: Manifest) -> Iterator[Path]:
    """Yield the files on this machine."""
    for entry in manifest.entries:
        yield from (instance.path for instance in entry.study.instances) if entry.study else ()
        yield from [entry.picture] if entry.picture else ()
    yield from (skip.path for skip in manifest.skipped)


class _Real:
    """Follows links; each folder is asked about once."""

    def __init__(self) -> None:
        self._folder = lru_cache(maxsize=4096)(_real)

    def __call__(self, path: Path) -> Path:
        """Return where a file lies in truth."""
        return _real(path) if path.is_symlink() else self._folder(path.parent) / path.name


def _real(path: Path) -> Path:
    """Follow links, as ``Path.resolve`` does, which before Python 3.13 gives up on a loop."""
    return Path(os.path.realpath(path))


def _uid(skipped: Skipped) -> str:
    return skipped.instance.sop_instance_uid if skipped.instance else ""


def _counts(done: Done) -> dict[str, int]:
    return {
        str(outcome): sum(count for (found, _), count in done.outcomes.items() if found == outcome)
        for outcome in Outcome
    }
